"""Which columns of a source hold what, and whether their values can be used."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.data.notes import told
from tuneoff.errors import BadInput, Fault
from tuneoff.spec import DataSpec

LISTED = 20
"""Faults of one file that are listed one by one; the rest is counted."""

_OPTIONS = {
    "text": "--text",
    "text_pair": "--text-pair",
    "label": "--label",
    "weight": "--weight",
    "group": "--group",
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The source's names of the columns that a task reads; None: not asked for."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = "label"
    weight: str | None = None
    group: str | None = None

    @staticmethod
    def of(data: DataSpec) -> Columns:
        """The columns that a study names."""
        return Columns(**{role: getattr(data, role) for role in _OPTIONS})

    def names(self) -> list[str]:
        """The source's names, each once."""
        return list(dict.fromkeys(self.wanted().values()))

    def wanted(self) -> dict[str, str]:
        """Role to the source's name, of the columns asked for."""
        named = {role: getattr(self, role) for role in _OPTIONS}
        return {role: name for role, name in named.items() if name is not None}


class Faults:
    """The faults of one file, in the order found: the first `LISTED` kept, the rest counted."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.listed: list[Fault] = []
        self.more = 0

    def __bool__(self) -> bool:
        return bool(self.listed)

    def add(
        self,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        mend: str | None = None,
    ) -> None:
        """Note one fault; `row` is the line of the file, the header being line 1."""
        if len(self.listed) < LISTED:
            self.listed.append(Fault(message, self.file, row, column, mend))
        else:
            self.more += 1

    def all(self) -> list[Fault]:
        """The listed faults, and a last one that counts the others."""
        rest = [Fault(f"more faults, not listed: {self.more}", self.file)] if self.more else []
        return [*self.listed, *rest]

    def raise_any(self) -> None:
        """Raise `BadInput` with all of them, if there are any."""
        if self.listed:
            raise BadInput(self.all())


@dataclass
class Raw:
    """The columns asked for as a reader found them, not yet looked at."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    """By role (`text`, `label`, …)."""
    lines: Sequence[int] = ()
    """Of each row: its line in the file, or its number from 1 where there are no lines."""
    rows: Sequence[int] | None = None
    """Of each row: its 0-based number in the source; None: they count up."""
    notes: list[str] = field(default_factory=list)
    """What a reader went on with and is worth a warning."""


def check_header(
    present: Sequence[str], columns: Columns, faults: Faults, *, row: int | None = 1
) -> bool:
    """Note columns that are missing, twice there or asked for twice; True if none is."""
    before = len(faults.listed)
    counts = Counter(present)
    for role, name in columns.wanted().items():
        if counts[name] == 0:
            faults.add(
                f"there is no column {name!r}", row=row, mend=_column_mend(role, name, present)
            )
        elif counts[name] > 1:
            places = [str(i + 1) for i, other in enumerate(present) if other == name]
            faults.add(
                f"the column stands {counts[name]} times in the header"
                f" (fields {', '.join(places)})",
                row=row,
                column=name,
                mend="Rename or remove all but one.",
            )
    # A text may well be the group, too: every pair of the same premise on one side.
    single = {role: name for role, name in columns.wanted().items() if role != "group"}
    for name, times in Counter(single.values()).items():
        if times == 1 or not counts[name]:
            continue
        roles = [_OPTIONS[role] for role, other in single.items() if other == name]
        faults.add(
            f"the column is asked for more than once, by {' and '.join(roles)}",
            column=name,
            mend="Name another column for each.",
        )
    return len(faults.listed) == before


def _column_mend(role: str, name: str, present: Sequence[str]) -> str:
    by_folded = {other.strip().casefold(): other for other in present}
    close = get_close_matches(name.strip().casefold(), list(by_folded), n=1, cutoff=0.6)
    guess = f" Did you mean {by_folded[close[0]]!r}?" if close else ""
    there = ", ".join(repr(other[:60]) for other in present[:LISTED])
    more = f" and {len(present) - LISTED} more" if len(present) > LISTED else ""
    return f"Columns there: {there}{more}.{guess} Name the right one with {_OPTIONS[role]}."


def assemble(raw: Raw, columns: Columns, faults: Faults) -> pd.DataFrame:
    """The table of `read_table` from raw values, every value checked into `faults`."""
    rows = len(raw.lines)
    frame: dict[str, Any] = {}
    for role in ("text", "text_pair"):
        if role in raw.values:
            name = columns.wanted()[role]
            frame[role] = pd.Series(_texts(raw.values[role], raw, name, faults), dtype="str")
    if columns.label is not None:
        labels = _names(raw.values["label"], raw, columns.label, "label", faults)
        _check_missing(labels, raw, columns.label, faults)
        _check_kinds(raw, columns.label, faults)
        _check_real(labels, raw, columns.label, faults)
        frame["label"] = pd.Series(labels, dtype="str")
    frame["weight"] = (
        np.ones(rows, np.float32)
        if columns.weight is None
        else _weights(raw.values["weight"], raw, columns.weight, faults)
    )
    if columns.group is not None:
        groups = _names(raw.values["group"], raw, columns.group, "group", faults)
        frame["group"] = pd.Series(groups, dtype="str")
    frame["row"] = np.asarray(range(rows) if raw.rows is None else raw.rows, dtype=np.int64)
    frame["line"] = np.asarray(raw.lines, dtype=np.int64)
    return pd.DataFrame(frame)


_HALF = re.compile("[\ud800-\udfff]")
"""A lone surrogate, which no encoding of text can hold."""


def _kind(value: object) -> str:
    """What a value is, in a reader's words."""
    names: dict[type, str] = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
        bytes: "bytes",
    }
    return "nothing (null)" if value is None else names.get(type(value), type(value).__name__)


def _texts(values: list[Any], raw: Raw, column: str, faults: Faults) -> list[str]:
    if all(type(value) is str and value.isascii() for value in values):
        return values
    texts: list[str] = []
    halves: list[int] = []
    for value, line in zip(values, raw.lines, strict=True):
        if not isinstance(value, str):
            faults.add(
                f"holds {_kind(value)}, not text",
                row=line,
                column=column,
                mend="Give a string, or remove the row.",
            )
            value = ""
        if not value.isascii() and _HALF.search(value):
            halves.append(line)
            value = _HALF.sub("\ufffd", value)
        texts.append(value)
    if halves:
        what = f"texts of column {column!r} with half of a character (a lone surrogate)"
        raw.notes.append(told(f"{what}, which U+FFFD stands for now", halves))
    return texts


def _names(values: list[Any], raw: Raw, column: str, what: str, faults: Faults) -> list[str]:
    """Labels or groups as strings; "" for a missing one, a value of another kind is a fault."""
    names = []
    for value, line in zip(values, raw.lines, strict=True):
        name = _name(value)
        if name is None:
            faults.add(
                f"holds {_kind(value)}, not a {what}",
                row=line,
                column=column,
                mend=f"Give each row one {what}: a string or a whole number.",
            )
        elif not name.isascii() and _HALF.search(name):
            faults.add(
                f"the {what} {name!r} holds half of a character (a lone surrogate)",
                row=line,
                column=column,
                mend="Write the whole one.",
            )
            name = None
        # A fault already stands for it; "?" keeps it from being reported as missing too.
        names.append("?" if name is None else name)
    return names


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return None


def _check_missing(labels: list[str], raw: Raw, column: str, faults: Faults) -> None:
    for label, line in zip(labels, raw.lines, strict=True):
        if not label:
            faults.add(
                "the label is missing",
                row=line,
                column=column,
                mend="Label the row or remove it.",
            )


_KINDS: dict[type, str] = {str: "texts", int: "numbers", float: "numbers", bool: "booleans"}


def _check_kinds(raw: Raw, column: str, faults: Faults) -> None:
    """One fault if labels are of several kinds: whether 1 and "1" are one label is not ours to say.

    A missing one is of no kind.
    """
    found: dict[str, list[int]] = {}
    values = raw.values["label"]
    for place, value in enumerate(values):
        kind = _KINDS.get(type(value))
        if kind and value != "" and value == value:  # NaN is a missing number
            found.setdefault(kind, []).append(place)
    if len(found) < 2:
        return
    told = [
        f"{len(places)} {kind} ({json.dumps(values[places[0]])[:60]} in row {raw.lines[places[0]]})"
        for kind, places in found.items()
    ]
    faults.add(
        f"the labels are of different kinds: {', '.join(told)}",
        row=raw.lines[sorted(places[0] for places in found.values())[1]],
        column=column,
        mend='Write all of them as strings ("1", "true") or all as whole numbers.',
    )


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|[+-]?inf")


def _check_real(labels: list[str], raw: Raw, column: str, faults: Faults) -> None:
    """One fault if the labels are numbers of which some are not whole: that is a regression."""
    distinct = set(labels) - {""}
    if not distinct or not all(_NUMBER.fullmatch(label) for label in distinct):
        return
    real = {label for label in distinct if not float(label).is_integer()}
    if not real:
        return
    rows = [i for i, label in enumerate(labels) if label in real]
    faults.add(
        f"the labels are real numbers ({labels[rows[0]]} here, {len(rows)} rows in all);"
        " tuneoff classifies, it does not predict quantities",
        row=raw.lines[rows[0]],
        column=column,
        mend="Give classes. If the numbers are names of classes, write them as words ('r0.5').",
    )


def _weights(values: list[Any], raw: Raw, column: str, faults: Faults) -> npt.NDArray[np.float32]:
    weights = np.ones(len(values), np.float32)
    largest = float(np.finfo(np.float32).max)
    for i, number in enumerate(_numbers(values)):
        if number is None or not 0 <= number <= largest:
            shown = repr(values[i])[:40]
            faults.add(
                f"{shown} is no weight",
                row=raw.lines[i],
                column=column,
                mend="A weight is a finite number of at least 0.",
            )
        else:
            weights[i] = number
    if not faults and not weights.any():
        faults.add("all weights are 0", column=column, mend="Give some rows a positive weight.")
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
