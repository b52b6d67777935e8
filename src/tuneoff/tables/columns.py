"""Roles of the columns of a source, the raw values of a reader, and the issues it found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tuneoff.config import DataSpec
from tuneoff.exceptions import BadInput, Issue

LISTED = 20
"""Maximum number of issues of one file that are listed. Further issues are only counted."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""An unpaired surrogate, which no text encoding can represent."""

KEPT = "kept "
"""Prefix of the role, and of the name in a table, of a column that is copied unchanged."""

OPTIONS = {
    "text": "--text",
    "text_pair": "--text-pair",
    "label": "--label",
    "weight": "--weight",
    "group": "--group",
}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the requested columns in a source; None: not requested."""

    text: str | None = "text"
    text_pair: str | None = None
    label: str | None = "label"
    weight: str | None = None
    group: str | None = None
    kept: tuple[str, ...] = ()
    """Further columns, which are copied unchanged."""
    header: bool | None = True
    """Whether a CSV or TSV file has a header; without one, columns are numbered from 1. None:
    `choose_columns` detects it."""

    @staticmethod
    def of(data: DataSpec) -> Columns:
        """Return the columns of a study; text and label are None if it does not name them."""
        return Columns(**{role: getattr(data, role) for role in (*OPTIONS, "header")})

    @staticmethod
    def named(by_role: Mapping[str, str | None]) -> Columns:
        """Return the columns for text, second text and label that a mapping names."""
        return Columns(
            text=by_role.get("text"),
            text_pair=by_role.get("text_pair"),
            label=by_role.get("label"),
        )

    def names(self) -> list[str]:
        """Return the requested column names without duplicates."""
        return list(dict.fromkeys(self.wanted().values()))

    def wanted(self) -> dict[str, str]:
        """Return the requested column names by role."""
        named = {role: getattr(self, role) for role in OPTIONS}
        wanted = {role: name for role, name in named.items() if name is not None}
        return wanted | {KEPT + name: name for name in self.kept}


class FileIssues:
    """Issues of one file in the order found: the first `LISTED`, and the number of the others."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lined = True
        """Whether the source has lines. If not, messages name rows by their number from 0."""
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
        """Add one issue; `row` is the position of the row as in `Raw.lines`."""
        if len(self.listed) < LISTED:
            line, row = (row, None) if self.lined else (None, row)
            self.listed.append(Issue(message, self.file, line, column, hint, row))
        else:
            self.more += 1

    def all(self) -> list[Issue]:
        """Return the listed issues, and a last one with the number of the others."""
        rest = (
            [Issue(f"further issues that are not listed: {self.more}", self.file)]
            if self.more
            else []
        )
        return [*self.listed, *rest]

    def raise_any(self) -> None:
        """Raise `BadInput` with all issues, if there are any."""
        if self.listed:
            raise BadInput(self.all())


@dataclass
class Raw:
    """Requested columns as read from the source, not yet checked."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    """Values by role (`text`, `label`, …)."""
    lines: Sequence[int] = ()
    """Line of each row in the file, or its number from 0 if the source has no lines."""
    lined: bool = True
    """Whether the source has lines."""
    rows: Sequence[int] | None = None
    """0-based number of each row in the source; None: consecutive."""
    exact: dict[str, int] = field(default_factory=dict)
    """Largest integer up to which the stored type is exact, by role; 2^53 if missing."""
    notes: list[str] = field(default_factory=list)
    """Warnings of the reader."""

    @property
    def word(self) -> str:
        """What `lines` counts: `line` or `row`."""
        return "line" if self.lined else "row"


def check_header(
    present: Sequence[str], columns: Columns, issues: FileIssues, *, row: int | None = 1
) -> bool:
    """Add issues for missing, duplicate and repeatedly requested columns; return True if none."""
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
                f"the column occurs {counts[name]} times in the header"
                f" (fields {', '.join(places)})",
                row=row,
                column=name,
                hint="Rename or remove all but one of them.",
            )
    # The text may also be the group: pairs with the same premise then stay in the same split.
    single = {role: columns.wanted()[role] for role in OPTIONS if role in columns.wanted()}
    single.pop("group", None)
    for name, times in Counter(single.values()).items():
        if times == 1 or not counts[name]:
            continue
        roles = [OPTIONS[role] for role, other in single.items() if other == name]
        issues.add(
            f"the column has several roles: {' and '.join(roles)}",
            column=name,
            hint="Use a different column for each option.",
        )
    return len(issues.listed) == before


def _column_hint(role: str, name: str, present: Sequence[str], columns: Columns) -> str:
    by_folded = {other.strip().casefold(): other for other in present}
    close = get_close_matches(name.strip().casefold(), list(by_folded), n=1, cutoff=0.6)
    guess = f" Did you mean {by_folded[close[0]]!r}?" if close else ""
    listed = ", ".join(repr(other[:60]) for other in present[:LISTED])
    more = f" and {len(present) - LISTED} more" if len(present) > LISTED else ""
    numbered = "" if columns.header else " The file is read without a header."
    option = OPTIONS.get(role, "--keep")
    return (
        f"Columns of the source: {listed}{more}.{numbered}{guess} Choose the column with {option}."
    )


def kind_of(value: object) -> str:
    """Describe the type of a value for a message."""
    names: dict[type, str] = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
        bytes: "bytes",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
