"""A run's progress: `history.jsonl` for later, events for whoever watches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Emit = Callable[[dict[str, Any]], None]


class Journal:
    """Writes history rows, and emits an event a few times per second at most."""

    def __init__(self, file: Path, emit: Emit) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("a", encoding="utf-8")
        self._emit = emit
        self._next_event = 0.0

    @property
    def size(self) -> int:
        """Bytes of the history so far."""
        return self._stream.tell()

    def cut(self, size: int) -> None:
        """Forget what a run that died wrote beyond its checkpoint."""
        self._stream.truncate(size)
        self._stream.seek(size)

    def write(self, kind: str, **values: Any) -> None:
        """One row of the history."""
        self._stream.write(json.dumps({"kind": kind, **values}) + "\n")
        self._stream.flush()

    def progress(self, phase: str, **values: Any) -> None:
        """Tell the watcher where the run is; dropped if it was told a fifth of a second ago."""
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + 0.2
            self._emit({"event": "progress", "phase": phase, **values})

    def phase(self, phase: str) -> None:
        """Tell the watcher that another phase begins."""
        self._emit({"event": "progress", "phase": phase})

    def close(self) -> None:
        """No more rows."""
        self._stream.close()
