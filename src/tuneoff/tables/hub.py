"""Data sets of the Hugging Face hub, read with `datasets`. No code of a data set is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables.columns import Columns, FileIssues, Raw, check_header
from tuneoff.tables.records import name_classes, read_arrow

PREFIX = "hf:"


def read_hub(source: str, columns: Columns, role: str, issues: FileIssues) -> Raw:
    """Read the requested columns of one split of a hub data set.

    Class labels that are stored as numbers are replaced by their names. Rows of class -1, the
    hub's notation for "no label", are left out, with a warning that counts them.

    Args:
        source: `hf:name`, `hf:name:config`, or `hf:` followed by a local folder.
        columns: The requested columns.
        role: Name of the split.
        issues: Issues of the source, to which problems are added.

    Raises:
        BadInput: The data set cannot be loaded.
    """
    splits = _load(source)
    if role not in splits:
        issues.add(
            f"the data set has no split {role!r}",
            hint=f"Available splits: {', '.join(splits)}. Use a file or, for validation and test,"
            " a fraction such as 0.1.",
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
    """Return the class names of columns whose classes are stored as numbers, by column."""
    import datasets

    return {
        name: list(feature.names)
        for name, feature in features.items()
        if isinstance(feature, datasets.ClassLabel)
    }


def hub_names(source: str, role: str) -> list[str]:
    """Return the column names of the split `role`; empty if there is no such split."""
    splits = _load(source)
    return list(splits[role].column_names) if role in splits else []


def _load(source: str) -> Any:
    """Return the splits of a data set; raise `BadInput` if it cannot be loaded."""
    import datasets

    name, config = split_name(source)
    try:
        # datasets 4 and newer do not execute remote code, so there is no option to switch off.
        return datasets.load_dataset(name, config)
    except Exception as error:  # the hub, the network and builders raise many types
        raise BadInput(_unreachable(source, name, config, error)) from error


def split_name(source: str) -> tuple[str, str | None]:
    """Return the name (or folder) and the configuration of `hf:name[:config]`."""
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
        hint="Check the name. If this machine is offline, run"
        f' python -c "import datasets; datasets.load_dataset({arguments})" on one with network'
        " access and copy its folder ~/.cache/huggingface, or use a CSV, JSONL or Parquet file.",
    )
