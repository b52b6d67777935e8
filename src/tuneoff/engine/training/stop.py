"""Stop on SIGTERM or SIGINT: the signal is checked between steps, so a checkpoint comes first."""

from __future__ import annotations

import signal
from types import FrameType

from tuneoff.exceptions import Interrupted

_asked: list[int] = []


def listen() -> None:
    """Install signal handlers for SIGTERM and SIGINT in this process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    _asked.append(number)


def asked_to() -> bool:
    """Return whether a signal was received."""
    return bool(_asked)


def check() -> None:
    """Raise `Interrupted` if a signal was received."""
    if _asked:
        raise Interrupted("the run was interrupted; rerun the same command to resume")
