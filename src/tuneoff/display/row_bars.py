"""Progress bars of commands that predict rows with saved models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress, TaskID

from tuneoff.display.console import Terminal


@contextmanager
def row_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr for each part of the work; nothing is shown without a terminal.

    Yields:
        A function that is called with the name of a part, its number of rows done, and of all rows.
    """
    with Progress(
        console=Terminal(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        parts: dict[str, TaskID] = {}

        def advance(part: str, done: int, rows: int) -> None:
            if part not in parts:
                parts[part] = progress.add_task(part, total=rows)
            progress.update(parts[part], completed=done)

        yield advance
