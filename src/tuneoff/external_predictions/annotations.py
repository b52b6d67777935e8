"""Several annotators' labels for a row, from a file."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from tuneoff.external_predictions.answers import Faults, row_ids
from tuneoff.external_predictions.files import read_columns


def read_annotations(path: Path) -> dict[Hashable, list[str]]:
    """Each row's labels: columns `row`, as in `predictions.parquet`, and `annotations`.

    `annotations` is a list of labels (JSON lines, Parquet), or one written as JSON in a CSV. Rows
    may be missing. Raises `BadInput` with the rows at fault.
    """
    columns = read_columns(path)
    faults = Faults(columns.file)
    for name in ("row", "annotations"):
        if name not in columns.values:
            faults.add(f"there is no column {name!r}", mend="Give row and annotations.")
    faults.raise_any()
    found: dict[Hashable, list[str]] = {}
    ids = row_ids(columns.values["row"])
    for key, value, line in zip(ids, columns.values["annotations"], columns.lines, strict=True):
        labels = _labels(value)
        if labels is None:
            mend = 'Write ["yes", "no", "yes"], the label of each annotator.'
            faults.add("no list of labels", row=line, column="annotations", mend=mend)
        if key in found:
            faults.add(f"{key!r} stands there twice", row=line, column="row", mend="Remove one.")
        found[key] = labels or []
    faults.raise_any()
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
