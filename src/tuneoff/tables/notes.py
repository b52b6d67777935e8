"""Warnings about rows that are valid but unusual, each with a count and up to five examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

SHOWN = 5
"""Maximum number of rows that a warning names."""

LONG = 131_072
"""Number of characters of a field above which other CSV readers fail."""

MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil"})
"""Strings that other readers take for a missing value, in lower case."""

_WRONGLY_DECODED = re.compile("Ã[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€[\x80-\xbf™œž“”˜¦]")
"""UTF-8 decoded as cp1252 or Latin-1: accented letters and typographic quotation marks."""
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def row_warning(what: str, lines: Iterable[int], of: int | None = None, word: str = "line") -> str:
    """Format a warning as `what: 7 of 100 (lines 2, 3, 5, 7, 11, …)`.

    Args:
        what: Description of the rows.
        lines: Position of each row.
        of: Total number of rows; None: not shown.
        word: What `lines` counts, `line` or `row`.
    """
    lines = list(lines)
    shown = ", ".join(str(line) for line in lines[:SHOWN])
    more = ", …" if len(lines) > SHOWN else ""
    total = "" if of is None else f" of {of}"
    return f"{what}: {len(lines)}{total} ({word if len(lines) == 1 else word + 's'} {shown}{more})"


def place_name(frame: pd.DataFrame) -> str:
    """Return the column of `frame` whose values identify its rows in messages.

    This is `line` for a text file (the header is line 1), and otherwise `row`, counted from 0 as in
    the files that tuneoff writes.
    """
    return "line" if "line" in frame else "row"


def row_warnings(what: str, frame: pd.DataFrame, found: npt.NDArray[np.bool_]) -> list[str]:
    """Return the `row_warning` of some rows of a table in a list, which is empty without rows.

    Args:
        what: Description of the rows.
        frame: The table.
        found: Mask of the rows, of shape (rows,).
    """
    word = place_name(frame)
    places = frame[word].to_numpy()[found].tolist()
    return [row_warning(what, places, len(frame), word)] if places else []


def text_notes(source: str, frame: pd.DataFrame) -> list[str]:
    """Return warnings about texts that many tools cannot handle; the texts are kept unchanged."""
    columns = [frame[name].tolist() for name in ("text", "text_pair") if name in frame]
    tests: dict[str, Callable[[str], bool]] = {
        "with NUL bytes": lambda text: "\0" in text,
        f"with more than {LONG:,} characters": lambda text: len(text) > LONG,
        "with bidirectional control characters": _directed,
        "that usually mean a missing value (nan, N/A, null), kept as text": (
            lambda text: text.strip().lower() in MISSING
        ),
        "that seem to be decoded with the wrong encoding (Ã© instead of é)": (
            lambda text: not text.isascii() and _WRONGLY_DECODED.search(text) is not None
        ),
    }
    return [
        note
        for what, test in tests.items()
        for note in row_warnings(f"{source}: texts {what}", frame, _any(columns, test))
    ]


def blank_rows(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return a mask of shape (rows,) of rows whose text, and second text, has only white space."""
    columns = [frame[name].tolist() for name in ("text", "text_pair") if name in frame]
    return ~_any(columns, lambda text: bool(text.strip()))


def missing_names(labels: pd.Series[str]) -> list[str]:
    """Return a warning about labels that other readers take for missing values, with counts."""
    counts = labels.value_counts()
    unusual = sorted(str(label) for label in counts.index if label.strip().lower() in MISSING)
    if not unusual:
        return []
    names = ", ".join(f"{label!r} ({counts[label]} times)" for label in unusual)
    return [f"strings that usually mean a missing value are used as labels: {names}"]


def _directed(text: str) -> bool:
    return not text.isascii() and _DIRECTION.search(text) is not None


def _any(columns: Sequence[Sequence[str]], test: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """Return a mask of shape (rows,) of rows where `test` is true for the text or second text."""
    found = np.zeros(len(columns[0]), bool)
    for texts in columns:
        found |= np.fromiter(map(test, texts), bool, len(texts))
    return found
