"""Several annotators' labels for a row, from a file."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from tuneoff.external_predictions.answers import FileIssues, row_ids
from tuneoff.external_predictions.files import read_columns


def read_annotations(path: Path) -> dict[Hashable, list[str]]:
    """Each row's labels: columns `row`, as in `predictions.parquet`, and `annotations`.

    `annotations` is a list of labels (JSON lines, Parquet), or one written as JSON in a CSV. Rows
    may be missing. Raises `BadInput` with the rows at issue.
    """
    columns = read_columns(path)
    issues = FileIssues(columns.file)
    for name in ("row", "annotations"):
        if name not in columns.values:
            issues.add(f"there is no column {name!r}", hint="Give row and annotations.")
    issues.raise_any()
    found: dict[Hashable, list[str]] = {}
    ids = row_ids(columns.values["row"])
    for key, value, line in zip(ids, columns.values["annotations"], columns.lines, strict=True):
        labels = _labels(value)
        if labels is None:
            hint = 'Write ["yes", "no", "yes"], the label of each annotator.'
            issues.add("no list of labels", row=line, column="annotations", hint=hint)
        if key in found:
            issues.add(f"{key!r} stands there twice", row=line, column="row", hint="Remove one.")
        found[key] = labels or []
    issues.raise_any()
    return found


def _labels(value: Any) -> list[str] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list) or not all(isinstance(x, str | int) for x in value):
        return None
    return [str(x) for x in value]
