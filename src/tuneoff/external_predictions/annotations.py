"""Files with the labels of several annotators per row."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from tuneoff.external_predictions.file_predictions import row_ids
from tuneoff.external_predictions.files import read_columns
from tuneoff.tables.columns import FileIssues


def read_annotations(path: Path) -> dict[Hashable, list[str]]:
    """Read the labels of several annotators for each row.

    Args:
        path: File with the columns `row`, as in `predictions.parquet`, and `annotations`, a list of
            labels (in JSON lines or Parquet) or a JSON list as text (in CSV). Rows may be missing.

    Returns:
        The labels of each row.

    Raises:
        BadInput: With all issues found.
    """
    columns = read_columns(path)
    issues = FileIssues(columns.file)
    for name in ("row", "annotations"):
        if name not in columns.values:
            issues.add(
                f"there is no column {name!r}",
                hint="The columns row and annotations are required.",
            )
    issues.raise_any()
    found: dict[Hashable, list[str]] = {}
    ids = row_ids(columns.values["row"])
    for key, value, line in zip(ids, columns.values["annotations"], columns.lines, strict=True):
        labels = _labels(value)
        if labels is None:
            hint = 'Write the label of each annotator, e.g. ["yes", "no", "yes"].'
            issues.add("not a list of labels", row=line, column="annotations", hint=hint)
        if key in found:
            issues.add(
                f"the row {key!r} occurs twice", row=line, column="row", hint="Remove one of them."
            )
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
