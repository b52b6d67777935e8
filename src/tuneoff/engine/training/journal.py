"""Progress of a run: rows in `history.jsonl`, and events for the display."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Emit = Callable[[dict[str, Any]], None]


class Journal:
    """Writes history rows, and emits progress events, at most five per second."""

    def __init__(self, file: Path, emit: Emit) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("a", encoding="utf-8")
        self._emit = emit
        self._next_event = 0.0

    @property
    def size(self) -> int:
        """Size of the history so far, in bytes."""
        return self._stream.tell()

    def cut(self, size: int) -> None:
        """Truncate the history to `size` bytes.

        The steps after the last checkpoint are repeated, and their rows are written again.
        """
        self._stream.truncate(size)
        self._stream.seek(size)

    def write(self, kind: str, **values: Any) -> None:
        """Write one row of the history."""
        self._stream.write(json.dumps({"kind": kind, **values}) + "\n")
        self._stream.flush()

    def progress(self, phase: str, **values: Any) -> None:
        """Emit the progress; it is dropped within 0.2 s after the last one."""
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + 0.2
            self._emit({"event": "progress", "phase": phase, **values})

    def phase(self, phase: str) -> None:
        """Emit the start of a phase, always."""
        self._emit({"event": "progress", "phase": phase})

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
