"""Terminal output of a profile: the operators that take most of the time of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff import formatting as fmt


def render_operators(found: Mapping[str, Any]) -> RenderableType:
    """Return the table of operators; it fits 80 columns.

    Times are per step, without the time of called operators.

    Args:
        found: Content of `operators.json`.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("operator", no_wrap=True)
    for head in ("calls", "time", "share"):
        table.add_column(head, justify="right", no_wrap=True)
    steps = found["steps"]
    for own in found["operators"]:
        cells = (
            fmt.count(own["calls"] / steps),
            _milliseconds(own["seconds"] / steps),
            fmt.percent(round(100 * own["share"], 1)),
        )
        table.add_row(Text(fmt.shorten(own["name"], 48)), *map(Text, cells))
    last = found["first_step"] + steps - 1
    traced = f"step {last}" if steps == 1 else f"steps {found['first_step']} to {last}"
    note = (
        f"Operators take {_milliseconds(found['seconds'] / steps)} per step (profiled: {traced})."
    )
    return Group(table, Text(), Text(note, style="dim"))


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms" if seconds < 9.9995 else fmt.seconds(seconds)
