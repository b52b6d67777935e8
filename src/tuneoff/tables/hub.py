"""Data sets of the Hugging Face hub, through `datasets`; no code of a data set is ever run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables.columns import Columns, FileIssues, Raw, check_header
from tuneoff.tables.records import name_classes, read_arrow

PREFIX = "hf:"


def read_hub(source: str, columns: Columns, role: str, issues: FileIssues) -> Raw:
    """The columns asked for of the split `role`.

    `source` is `hf:name`, `hf:name:config`, or `hf:` and a local folder. A class label that is
    stored as a number becomes its name; rows whose class is -1, which is how the hub writes "no
    label", are left out and counted in a warning. `BadInput` if the data set cannot be reached.
    """
    splits = _load(source)
    if role not in splits:
        issues.add(
            f"the data set has no split {role!r}",
            hint=f"Splits there: {', '.join(splits)}. Give a file, or for validation and test a"
            " fraction such as 0.1.",
        )
        return Raw()
    split = splits[role]
    if not check_header(split.column_names, columns, issues, row=None):
        return Raw()
    kept = split.select_columns(columns.names())
    raw = read_arrow(kept.with_format("arrow")[:], columns, issues)
    name_classes(raw, columns, _class_names(split.features), issues)
    return raw


def _class_names(features: Any) -> dict[str, list[str]]:
    """Return the names of the classes that are stored as numbers, by column."""
    import datasets

    return {
        name: list(feature.names)
        for name, feature in features.items()
        if isinstance(feature, datasets.ClassLabel)
    }


def hub_names(source: str, role: str) -> list[str]:
    """Return the names of the columns of the split `role`; none where there is no such split."""
    splits = _load(source)
    return list(splits[role].column_names) if role in splits else []


def _load(source: str) -> Any:
    """Return the splits of a data set; `BadInput` if it cannot be reached."""
    import datasets

    name, config = split_name(source)
    try:
        # datasets 4 and newer know no remote code; nothing has to be switched off.
        return datasets.load_dataset(name, config)
    except Exception as error:  # whatever the hub, the network or a builder may raise
        raise BadInput(_unreachable(source, name, config, error)) from error


def split_name(source: str) -> tuple[str, str | None]:
    """Name (or folder) and configuration of `hf:name[:config]`."""
    rest = source.removeprefix(PREFIX)
    if Path(rest).is_dir():
        return rest, None
    name, _, config = rest.rpartition(":") if ":" in rest else (rest, "", "")
    return name, config or None


def _unreachable(source: str, name: str, config: str | None, error: Exception) -> Issue:
    arguments = ", ".join(repr(part) for part in (name, config) if part)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Issue(
        f"the data set cannot be loaded: {lines[0][:300]}",
        source,
        hint="Check the name. Without a network, run where there is one"
        f' python -c "import datasets; datasets.load_dataset({arguments})" and copy the folder'
        " ~/.cache/huggingface, or give a CSV, JSONL or Parquet file instead.",
    )
