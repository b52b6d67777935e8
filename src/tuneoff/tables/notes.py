"""What can be gone on with and is worth a look: warnings, each with a count and five examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

SHOWN = 5
"""Rows that a warning names."""

LONG = 131_072
"""Characters of a field from which on other readers of CSV give up."""

MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil"})
"""What other readers take for a missing value, in lower case."""

_WRONGLY_DECODED = re.compile("Ã[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€[\x80-\xbf™œž“”˜¦]")
"""UTF-8 that was read as cp1252 or Latin-1: letters with accents, and curly quotation marks."""
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def told(what: str, lines: Iterable[int], of: int | None = None, word: str = "line") -> str:
    """Return `what: 7 of 100 (lines 2, 3, 5, 7, 11, …)`; `word` is what `lines` count."""
    lines = list(lines)
    shown = ", ".join(str(line) for line in lines[:SHOWN])
    more = ", …" if len(lines) > SHOWN else ""
    total = "" if of is None else f" of {of}"
    return f"{what}: {len(lines)}{total} ({word if len(lines) == 1 else word + 's'} {shown}{more})"


def place_name(frame: pd.DataFrame) -> str:
    """Return the column of `frame` that names its rows in messages.

    `line` of a text file, the header being line 1; else `row`, counted from 0 as in the files that
    tuneoff writes.
    """
    return "line" if "line" in frame else "row"


def told_of(what: str, frame: pd.DataFrame, found: npt.NDArray[np.bool_]) -> list[str]:
    """`told` of the rows of `frame` where `found` (rows,) is true; nothing if there are none."""
    word = place_name(frame)
    places = frame[word].to_numpy()[found].tolist()
    return [told(what, places, len(frame), word)] if places else []


def text_notes(source: str, frame: pd.DataFrame) -> list[str]:
    """What stands in the texts of a file that many tools would choke on; they stay as they are."""
    columns = [frame[name].tolist() for name in ("text", "text_pair") if name in frame]
    tests: dict[str, Callable[[str], bool]] = {
        "with NUL bytes": lambda text: "\0" in text,
        f"of more than {LONG:,} characters": lambda text: len(text) > LONG,
        "with control characters of the writing direction": _directed,
        "that are words for a missing value (nan, N/A, null), taken as they are": (
            lambda text: text.strip().lower() in MISSING
        ),
        "that look as if they were decoded with a wrong encoding (Ã© in place of é)": (
            lambda text: not text.isascii() and _WRONGLY_DECODED.search(text) is not None
        ),
    }
    return [
        note
        for what, test in tests.items()
        for note in told_of(f"{source}: texts {what}", frame, _any(columns, test))
    ]


def blank_rows(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(rows,) whether a row has no text but white space, in the pair neither."""
    columns = [frame[name].tolist() for name in ("text", "text_pair") if name in frame]
    return ~_any(columns, lambda text: bool(text.strip()))


def missing_names(labels: pd.Series[str]) -> list[str]:
    """Labels that other readers take for a missing value, with how often they occur."""
    counts = labels.value_counts()
    found = sorted(str(label) for label in counts.index if label.strip().lower() in MISSING)
    if not found:
        return []
    names = ", ".join(f"{label!r} ({counts[label]} times)" for label in found)
    return [f"read as labels, not as missing values: {names}"]


def _directed(text: str) -> bool:
    return not text.isascii() and _DIRECTION.search(text) is not None


def _any(columns: Sequence[Sequence[str]], test: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """(rows,) whether `test` holds for a row's text or its pair."""
    found = np.zeros(len(columns[0]), bool)
    for texts in columns:
        found |= np.fromiter(map(test, texts), bool, len(texts))
    return found
