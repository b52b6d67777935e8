"""Which columns of a source hold what, and what a reader found wrong with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tuneoff.config import DataSpec
from tuneoff.exceptions import BadInput, Issue

LISTED = 20
"""Issues of one file that are listed one by one; the others are counted."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""An unpaired surrogate, which no encoding of text can hold."""

KEPT = "kept "
"""Starts the role, and the name in a table, of a column that is only carried along."""

OPTIONS = {
    "text": "--text",
    "text_pair": "--text-pair",
    "label": "--label",
    "weight": "--weight",
    "group": "--group",
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The source's names of the columns that a task reads; None: not asked for."""

    text: str | None = "text"
    text_pair: str | None = None
    label: str | None = "label"
    weight: str | None = None
    group: str | None = None
    kept: tuple[str, ...] = ()
    """Further columns, carried along as they are."""
    header: bool | None = True
    """Whether a CSV or TSV file starts with the names of its columns, which are numbered from 1
    otherwise; None: to be recognised, by `choose_columns`."""

    @staticmethod
    def of(data: DataSpec) -> Columns:
        """Return the columns that a study names; text and label are None where it names none."""
        return Columns(**{role: getattr(data, role) for role in (*OPTIONS, "header")})

    def names(self) -> list[str]:
        """The source's names, each once."""
        return list(dict.fromkeys(self.wanted().values()))

    def wanted(self) -> dict[str, str]:
        """Role to the source's name, of the columns asked for."""
        named = {role: getattr(self, role) for role in OPTIONS}
        wanted = {role: name for role, name in named.items() if name is not None}
        return wanted | {KEPT + name: name for name in self.kept}


class FileIssues:
    """The issues of one file, in the order found: the first `LISTED` kept, the rest counted."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lined = True
        """Whether the source has lines; if not, rows are named by their number from 0."""
        self.listed: list[Issue] = []
        self.more = 0

    def __bool__(self) -> bool:
        return bool(self.listed)

    def add(
        self,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Note one issue; `row` is where the row stands, as `Raw.lines` has it."""
        if len(self.listed) < LISTED:
            line, row = (row, None) if self.lined else (None, row)
            self.listed.append(Issue(message, self.file, line, column, hint, row))
        else:
            self.more += 1

    def all(self) -> list[Issue]:
        """The listed issues, and a last one that counts the others."""
        rest = [Issue(f"more issues, not listed: {self.more}", self.file)] if self.more else []
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
    """Of each row: its line in the file, or its number from 0 where there are no lines."""
    lined: bool = True
    """Whether the source has lines."""
    rows: Sequence[int] | None = None
    """Of each row: its 0-based number in the source; None: they count up."""
    exact: dict[str, int] = field(default_factory=dict)
    """By role, up to which number all whole numbers are told apart; 2^53 where nothing is said."""
    notes: list[str] = field(default_factory=list)
    """What a reader went on with and is worth a warning."""

    @property
    def word(self) -> str:
        """What `lines` count."""
        return "line" if self.lined else "row"


def check_header(
    present: Sequence[str], columns: Columns, issues: FileIssues, *, row: int | None = 1
) -> bool:
    """Note columns that are missing, twice there or asked for twice; True if none is."""
    before = len(issues.listed)
    counts = Counter(present)
    for role, name in columns.wanted().items():
        if counts[name] == 0:
            issues.add(
                f"there is no column {name!r}",
                row=row,
                hint=_column_hint(role, name, present, columns),
            )
        elif counts[name] > 1:
            places = [str(i + 1) for i, other in enumerate(present) if other == name]
            issues.add(
                f"the column stands {counts[name]} times in the header"
                f" (fields {', '.join(places)})",
                row=row,
                column=name,
                hint="Rename or remove all but one.",
            )
    # A text may well be the group, too: every pair of the same premise on one side.
    single = {role: columns.wanted()[role] for role in OPTIONS if role in columns.wanted()}
    single.pop("group", None)
    for name, times in Counter(single.values()).items():
        if times == 1 or not counts[name]:
            continue
        roles = [OPTIONS[role] for role, other in single.items() if other == name]
        issues.add(
            f"the column is asked for more than once, by {' and '.join(roles)}",
            column=name,
            hint="Name another column for each.",
        )
    return len(issues.listed) == before


def _column_hint(role: str, name: str, present: Sequence[str], columns: Columns) -> str:
    by_folded = {other.strip().casefold(): other for other in present}
    close = get_close_matches(name.strip().casefold(), list(by_folded), n=1, cutoff=0.6)
    guess = f" Did you mean {by_folded[close[0]]!r}?" if close else ""
    there = ", ".join(repr(other[:60]) for other in present[:LISTED])
    more = f" and {len(present) - LISTED} more" if len(present) > LISTED else ""
    numbered = "" if columns.header else " The file is read without a header."
    option = OPTIONS.get(role, "--keep")
    return f"Columns there: {there}{more}.{numbered}{guess} Name the right one with {option}."


def kind_of(value: object) -> str:
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
