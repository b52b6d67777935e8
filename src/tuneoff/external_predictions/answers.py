"""One file's columns as predictions: every value checked, issues with their row and column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneoff.config.label_names import label_name
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.external_predictions.files import Columns

LISTED = 10
"""Issues of one file that are listed one by one."""
ROUNDING = 0.02
"""By which the probabilities of a row may miss 1: files round to two digits."""
SPLITS = ("test", "validation")
TEXTS = ("text", "text_pair", "group")
_KINDS = ("probability_", "logit_")
_RESERVED = ("row", "id", "split", "label", "prediction", *TEXTS)
_COLUMNS = (
    "A file of predictions has the columns row, label, and prediction or one probability_LABEL "
    "(or logit_LABEL, or the label alone) for each label; split, text, text_pair and group may be "
    "there."
)


@dataclass(frozen=True)
class Answers:
    """One file, checked by itself."""

    columns: Columns
    rows: list[int | str]
    """Whole numbers where all of them are."""
    splits: list[str]
    labels: list[str] | None
    """True labels; None where the file has none."""
    predicted: list[str] | None
    """As the file says it; None where probabilities say it."""
    probable: dict[str, list[float]]
    """By label, in the order of the file; logits already turned into probabilities."""
    texts: dict[str, list[str]]
    """`text`, `text_pair` and `group`, where they are there."""

    @property
    def file(self) -> str:
        """The file's path."""
        return self.columns.file

    def line(self, place: int) -> int:
        """Where a row stands in the file."""
        return self.columns.lines[place]


class FileIssues:
    """The issues of one file; the first ones are kept, the rest counted."""

    def __init__(self, file: str) -> None:
        self.file, self.found, self.more = file, list[Issue](), 0

    def add(
        self,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Note one."""
        if len(self.found) < LISTED:
            self.found.append(Issue(message, self.file, row, column, hint))
        else:
            self.more += 1

    def raise_any(self) -> None:
        """Raise `BadInput` with all of them, if there are any."""
        if self.more:
            self.found.append(Issue(f"more issues, not listed: {self.more}", self.file))
        if self.found:
            raise BadInput(self.found)


def read_answers(columns: Columns, labels: Sequence[str] = ()) -> Answers:
    """`columns` as predictions; `BadInput` with every issue found.

    `labels` are those of the task: a file may name its probabilities by the labels alone.
    """
    issues = FileIssues(columns.file)
    names = list(columns.values)
    row_name = next((name for name in ("row", "id") if name in columns.values), None)
    if row_name is None:
        issues.add("there is no column 'row'", hint=f"{nearest('row', names)} {_COLUMNS}")
    kind, by_label = _probability_columns(names, labels, issues)
    if not by_label and "prediction" not in names:
        issues.add("there is neither a prediction nor a probability", hint=_COLUMNS)
    issues.raise_any()
    assert row_name is not None
    answers = Answers(
        columns,
        _ids(columns, row_name, issues),
        _splits(columns, issues),
        _names(columns, "label", labels, issues),
        _names(columns, "prediction", labels, issues),
        _probabilities(columns, kind, by_label, issues) if by_label else {},
        {name: [str(v or "") for v in columns.values[name]] for name in TEXTS if name in names},
    )
    issues.raise_any()
    return answers


def _probability_columns(
    names: Sequence[str], labels: Sequence[str], issues: FileIssues
) -> tuple[str, dict[str, str]]:
    """What the file's probabilities are, one of `_KINDS`, and the column of each label.

    A column for every label under another name is an issue: it would be left out without a word.
    """
    kinds = [kind for kind in _KINDS if any(name.startswith(kind) for name in names)]
    if len(kinds) > 1:
        issues.add("there are both probabilities and logits", hint="Remove one of the two.")
    if kinds:
        kind = kinds[0]
        named = [name for name in names if name.startswith(kind)]
        return kind, {_label(name.removeprefix(kind), labels): name for name in named}
    others = [name for name in names if name not in _RESERVED]
    columns = {_label(name, labels): name for name in others}
    here = [label for label in labels if label in columns]
    if len(labels) > 1 and len(here) == len(labels):
        return _KINDS[0], {label: columns[label] for label in labels}
    if len(here) > 1:
        lacking = next(label for label in labels if label not in here)
        hint = "Give one for each label of the task."
        issues.add(f"there is a column {here[0]!r} but none for the label {lacking!r}", hint=hint)
    elif unread := _unread_probabilities(others, labels):
        issues.add(
            f"the columns {unread[0]!r}, {unread[1]!r}, … are not read",
            hint="Name them probability_LABEL, or logit_LABEL if they are logits; LABEL as in the"
            " data.",
        )
    return _KINDS[0], {}


def _unread_probabilities(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The columns `<start><label><end>`, case ignored, where there is one for every label."""
    folded = {name.casefold(): name for name in names}
    wanted = [label.casefold() for label in labels]
    for name in folded:
        if len(wanted) < 2 or wanted[0] not in name:
            continue
        start, _, end = name.partition(wanted[0])
        if all(start + label + end in folded for label in wanted):
            return [folded[start + label + end] for label in wanted]
    return []


def _ids(columns: Columns, name: str, issues: FileIssues) -> list[int | str]:
    values = columns.values[name]
    seen: dict[Any, int] = {}
    split = columns.values.get("split", ["test"] * len(values))
    for value, part, line in zip(values, split, columns.lines, strict=True):
        if value is None or str(value).strip() == "":
            issues.add("the row has no number or name", row=line, column=name)
        elif (value, part) in seen:
            issues.add(
                f"{value!r} stands in line {seen[value, part]} already",
                row=line,
                column=name,
                hint="Give each row of the test one line.",
            )
        seen.setdefault((value, part), line)
    return row_ids(values)


def row_ids(values: Sequence[Any]) -> list[int | str]:
    """Whole numbers, however a file wrote them, where all ids are such and stay distinct.

    Else strings: `007` and `7` are two ids.
    """
    numbers = [number for value in values if (number := _whole(value)) is not None]
    if len(numbers) == len(values) and len(set(numbers)) == len(set(map(str, values))):
        return [*numbers]
    return [str(value) for value in values]


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return None if isinstance(value, bool | float) else int(value)
    except (TypeError, ValueError):
        return None


def _splits(columns: Columns, issues: FileIssues) -> list[str]:
    if "split" not in columns.values:
        return ["test"] * len(columns.lines)
    for value, line in zip(columns.values["split"], columns.lines, strict=True):
        if value not in SPLITS:
            hint = f"Give {' or '.join(SPLITS)}, or leave the row out."
            issues.add(f"{value!r} is no split", row=line, column="split", hint=hint)
    return [str(value) for value in columns.values["split"]]


def _names(
    columns: Columns, name: str, labels: Sequence[str], issues: FileIssues
) -> list[str] | None:
    if name not in columns.values:
        return None
    names = []
    for value, line in zip(columns.values[name], columns.lines, strict=True):
        label = _label(value, labels)
        if not label:
            issues.add(f"the {name} is missing or no name", row=line, column=name)
        names.append(label)
    return names


def labels_in(files: Sequence[Columns]) -> list[str]:
    """The true labels that the files name, sorted."""
    found = {_label(value) for columns in files for value in columns.values.get("label", ())}
    return sorted(found - {""})


def _label(value: Any, labels: Sequence[str] = ()) -> str:
    """Return a label in the spelling of the data, or as it is where the task has it like that."""
    return value if value in labels else label_name(value) or ""


def _probabilities(
    columns: Columns, kind: str, by_label: Mapping[str, str], issues: FileIssues
) -> dict[str, list[float]]:
    names = list(by_label.values())
    table = np.full((len(columns.lines), len(names)), np.nan)
    for j, name in enumerate(names):
        for i, (value, line) in enumerate(zip(columns.values[name], columns.lines, strict=True)):
            with suppress(TypeError, ValueError):  # stays NaN
                table[i, j] = math.nan if isinstance(value, bool) else float(value)
            if not math.isfinite(table[i, j]):
                issues.add(f"{value!r} is no finite number", row=line, column=name)
    issues.raise_any()
    if kind == "logit_":
        table = np.exp(table - table.max(1, keepdims=True))
    else:
        _check_sums(table, columns.lines, names, issues)
    issues.raise_any()
    table = table / table.sum(1, keepdims=True)
    return {label: table[:, j].tolist() for j, label in enumerate(by_label)}


def _check_sums(table: Any, lines: Sequence[int], names: list[str], issues: FileIssues) -> None:
    for values, line in zip(table, lines, strict=True):
        if values.min() < 0 or values.max() > 1 + ROUNDING:
            j = int(np.argmax(np.abs(values - 0.5)))
            issues.add(
                f"{values[j]:g} is no probability",
                row=line,
                column=names[j],
                hint="Name the columns logit_LABEL if they are logits.",
            )
        elif abs(values.sum() - 1) > ROUNDING:
            issues.add(
                f"the probabilities add up to {values.sum():.3f}, not to 1",
                row=line,
                hint="Give one for each label of the task; name logits logit_LABEL.",
            )
