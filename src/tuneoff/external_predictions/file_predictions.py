"""Conversion of a file's columns to predictions, with a check of each value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuneoff.config.label_names import label_name
from tuneoff.exceptions import nearest
from tuneoff.external_predictions.files import Columns
from tuneoff.tables.columns import FileIssues

ROUNDING = 0.02
"""Tolerance for the sum of a row's probabilities, because files may be rounded to two digits."""
SPLITS = ("test", "validation")
TEXTS = ("text", "text_pair", "group")
_KINDS = ("probability_", "logit_")
_RESERVED = ("row", "id", "split", "label", "prediction", *TEXTS)
_COLUMNS = (
    "A file of predictions has the columns row, label, and either prediction or one column "
    "probability_LABEL (or logit_LABEL, or LABEL) per label. The columns split, text, text_pair "
    "and group are optional."
)


@dataclass(frozen=True)
class FilePredictions:
    """Predictions of one file, with checked values."""

    columns: Columns
    """Columns of the file."""
    rows: list[int | str]
    """Row ids: integers if all ids are integers, otherwise strings."""
    splits: list[str]
    """Split of each row."""
    labels: list[str] | None
    """True labels; None if the file has none."""
    predicted: list[str] | None
    """Predicted labels of the file; None if it has only probabilities."""
    probable: dict[str, list[float]]
    """Probabilities by label, in the order of the file; logits are already converted."""
    texts: dict[str, list[str]]
    """The columns `text`, `text_pair` and `group` that the file has."""

    @property
    def file(self) -> str:
        """Path of the file."""
        return self.columns.file

    def line(self, place: int) -> int:
        """Return the line of a row in the file."""
        return self.columns.lines[place]


def read_predictions(columns: Columns, labels: Sequence[str] = ()) -> FilePredictions:
    """Convert columns to predictions.

    Args:
        columns: Columns of a file.
        labels: Labels of the task. With them, columns of probabilities may be named `LABEL`.

    Raises:
        BadInput: With all issues found.
    """
    issues = FileIssues(columns.file)
    names = list(columns.values)
    row_name = next((name for name in ("row", "id") if name in columns.values), None)
    if row_name is None:
        issues.add("there is no column 'row'", hint=f"{nearest('row', names)} {_COLUMNS}")
    kind, by_label = _probability_columns(names, labels, issues)
    if not by_label and "prediction" not in names:
        issues.add("there is neither a column 'prediction' nor one of probabilities", hint=_COLUMNS)
    issues.raise_any()
    assert row_name is not None
    file_predictions = FilePredictions(
        columns,
        _ids(columns, row_name, issues),
        _splits(columns, issues),
        _names(columns, "label", labels, issues),
        _names(columns, "prediction", labels, issues),
        _probabilities(columns, kind, by_label, issues) if by_label else {},
        {name: [str(v or "") for v in columns.values[name]] for name in TEXTS if name in names},
    )
    issues.raise_any()
    return file_predictions


def _probability_columns(
    names: Sequence[str], labels: Sequence[str], issues: FileIssues
) -> tuple[str, dict[str, str]]:
    """Return the kind of the file's probabilities, one of `_KINDS`, and the column of each label.

    Columns for all labels with an unknown prefix are an issue, because they would be ignored.
    """
    kinds = [kind for kind in _KINDS if any(name.startswith(kind) for name in names)]
    if len(kinds) > 1:
        issues.add(
            "there are columns of both probabilities and logits", hint="Remove one of the two."
        )
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
        hint = "Add one column for each label of the task."
        issues.add(
            f"there is a column {here[0]!r}, but no column for the label {lacking!r}", hint=hint
        )
    elif unread := _unread_probabilities(others, labels):
        issues.add(
            f"the columns {unread[0]!r}, {unread[1]!r}, … have an unknown prefix",
            hint="Rename them to probability_LABEL, or to logit_LABEL if they are logits, with the"
            " labels of the data.",
        )
    return _KINDS[0], {}


def _unread_probabilities(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return the columns `<start><label><end>` if there is one for each label, ignoring case."""
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
            issues.add("the row id is missing", row=line, column=name)
        elif (value, part) in seen:
            issues.add(
                f"the row {value!r} is already in line {seen[value, part]}",
                row=line,
                column=name,
                hint="Each row of a split must have exactly one line.",
            )
        seen.setdefault((value, part), line)
    return row_ids(values)


def row_ids(values: Sequence[Any]) -> list[int | str]:
    """Convert row ids to integers if all ids are integers and remain distinct.

    Otherwise they are strings, so `007` and `7` are two ids.
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
            hint = f"Use {' or '.join(SPLITS)}, or remove the row."
            issues.add(f"{value!r} is not a valid split", row=line, column="split", hint=hint)
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
            issues.add(f"the {name} is missing or not a valid label", row=line, column=name)
        names.append(label)
    return names


def labels_in(files: Sequence[Columns]) -> list[str]:
    """Return the sorted true labels of the files."""
    found = {_label(value) for columns in files for value in columns.values.get("label", ())}
    return sorted(found - {""})


def _label(value: Any, labels: Sequence[str] = ()) -> str:
    """Return a label in its normalised spelling, or unchanged if the task has exactly this one."""
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
                issues.add(f"{value!r} is not a finite number", row=line, column=name)
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
                f"{values[j]:g} is not a probability between 0 and 1",
                row=line,
                column=names[j],
                hint="If the values are logits, rename the columns to logit_LABEL.",
            )
        elif abs(values.sum() - 1) > ROUNDING:
            issues.add(
                f"the sum of the probabilities is {values.sum():.3f} instead of 1",
                row=line,
                hint="Add one column for each label of the task. If the values are logits, rename"
                " the columns to logit_LABEL.",
            )
