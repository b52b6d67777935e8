"""A run that is asked to end saves first: the signal is noted, and looked at between two steps."""

from __future__ import annotations

import signal
from types import FrameType

from tuneoff.exceptions import Interrupted

_asked: list[int] = []


def listen() -> None:
    """Note SIGTERM and SIGINT from now on, for the whole process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    _asked.append(number)


def asked_to() -> bool:
    """Whether a signal came."""
    return bool(_asked)


def check() -> None:
    """Raise `Interrupted` if a signal came."""
    if _asked:
        raise Interrupted("the run was interrupted; rerun the same command to resume")
