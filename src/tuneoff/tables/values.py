"""Check the raw values of a source and assemble the table of `read_table`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.tables.columns import KEPT, SURROGATE, Columns, FileIssues, Raw, kind_of
from tuneoff.tables.labels import read_groups, read_labels
from tuneoff.tables.notes import row_warning


def assemble(
    raw: Raw, columns: Columns, issues: FileIssues, *, missing_texts: bool = False
) -> pd.DataFrame:
    """Check every raw value and return the table of `read_table`.

    Args:
        raw: The raw values of the source.
        columns: The requested columns.
        issues: Issues of the source, to which invalid values are added.
        missing_texts: Whether a missing text counts as an empty one instead of an issue.
    """
    if missing_texts:
        for role in ("text", "text_pair"):
            if role in raw.values:
                raw.values[role] = ["" if value is None else value for value in raw.values[role]]
    rows = len(raw.lines)
    frame: dict[str, Any] = {}
    for role in ("text", "text_pair"):
        if role in raw.values:
            name = columns.wanted()[role]
            frame[role] = pd.Series(_texts(raw.values[role], raw, name, issues), dtype="str")
    if columns.label is not None:
        frame["label"] = pd.Series(read_labels(raw, columns.label, issues), dtype="str")
    frame["weight"] = (
        np.ones(rows, np.float32)
        if columns.weight is None
        else _weights(raw.values["weight"], raw, columns.weight, issues)
    )
    if columns.group is not None:
        frame["group"] = pd.Series(read_groups(raw, columns.group, issues), dtype="str")
    for name in columns.kept:
        frame[KEPT + name] = pd.Series(raw.values[KEPT + name], dtype=object)
    frame["row"] = np.asarray(range(rows) if raw.rows is None else raw.rows, dtype=np.int64)
    if raw.lined:
        frame["line"] = np.asarray(raw.lines, dtype=np.int64)
    return pd.DataFrame(frame)


def _texts(values: list[Any], raw: Raw, column: str, issues: FileIssues) -> list[str]:
    if all(type(value) is str and value.isascii() for value in values):
        return values
    texts: list[str] = []
    with_surrogates: list[int] = []
    for value, line in zip(values, raw.lines, strict=True):
        if not isinstance(value, str):
            issues.add(
                f"the value is {kind_of(value)}, not text",
                row=line,
                column=column,
                hint="Replace it by a string or remove the row.",
            )
            value = ""
        if not value.isascii() and SURROGATE.search(value):
            with_surrogates.append(line)
            value = SURROGATE.sub("\ufffd", value)
        texts.append(value)
    if with_surrogates:
        what = f"texts of column {column!r} with an unpaired surrogate"
        raw.notes.append(row_warning(f"{what}, replaced by U+FFFD", with_surrogates, word=raw.word))
    return texts


def _weights(
    values: list[Any], raw: Raw, column: str, issues: FileIssues
) -> npt.NDArray[np.float32]:
    weights = np.ones(len(values), np.float32)
    largest = float(np.finfo(np.float32).max)
    for i, number in enumerate(_numbers(values)):
        if number is None or not 0 <= number <= largest:
            shown = repr(values[i])[:40]
            issues.add(
                f"{shown} is not a valid weight",
                row=raw.lines[i],
                column=column,
                hint="A weight must be a finite number of at least 0.",
            )
        else:
            weights[i] = number
    if not issues and not weights.any():
        issues.add(
            "all weights are 0", column=column, hint="At least one row needs a positive weight."
        )
    return weights


def _numbers(values: list[Any]) -> Iterator[float | None]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            yield None
            continue
        try:
            yield float(value)
        except (ValueError, OverflowError):
            yield None
