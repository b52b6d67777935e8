"""Data that a Python caller holds in memory, written to files that a study can name."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tuneoff.exceptions import BadInput
from tuneoff.results.store import check_writable

ROLES = ("train", "validation", "test")
SPLITS = {"validation": ("validation", "valid", "val", "dev", "eval"), "test": ("test",)}
"""Names that the splits of a `DatasetDict` have for each role, the first that is there counts."""


def as_sources(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the `data` section of a study with files in place of objects.

    A `DatasetDict` given as `train` provides the splits for validation and test too, unless they
    are given. Raises `BadInput` for an object of a type that is not read.

    Warns:
        UserWarning: Splits of the `DatasetDict` are not used.
    """
    found = dict(data)
    splits: Any = found.get("train")
    if _is_from_datasets(splits, "DatasetDict"):
        if "train" not in splits:
            raise BadInput(
                f"train is a DatasetDict without a split 'train' (splits: {', '.join(splits)}).",
                hint="Give the split to train on: train=splits[...].",
            )
        known = {"train"}
        for role, names in SPLITS.items():
            name = next((name for name in names if name in splits), None)
            if name is not None:
                known.add(name)
                found.setdefault(role, splits[name])
        found["train"] = splits["train"]
        if rest := [repr(name) for name in splits if name not in known]:
            text = f"of the DatasetDict the splits {', '.join(rest)} are not used"
            warnings.warn(f"{text}; to use one: test=splits[...]", stacklevel=4)
    for role in ROLES:
        if role in found:
            found[role] = as_source(found[role], folder / f"{role}.parquet")
    return found


def as_source(value: Any, file: Path) -> Any:
    """Return a path, a fraction or None as it is, and a frame or `Dataset` as `file`."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_dataset = _is_from_datasets(value, "Dataset")
    if not is_dataset and not isinstance(value, pd.DataFrame):
        raise BadInput(
            f"{file.stem} is a {_type_name(value)}, which is not read.",
            hint="Give the path of a file, a pandas.DataFrame or a datasets.Dataset; as train, a"
            " DatasetDict too.",
        )
    check_writable(file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        if is_dataset:
            _write_dataset(value, file)
        else:
            _with_plain_names(value).to_parquet(file, index=False)
    except (ValueError, TypeError) as error:  # pyarrow's are of these kinds
        raise BadInput(
            f"the {_type_name(value)} for {file.stem!r} cannot be written:"
            f" {(str(error).splitlines() or ['?'])[0][:300]}",
            hint="Give each column values of one type, str say.",
        ) from None
    return str(file)


def _write_dataset(dataset: Any, file: Path) -> None:
    """Write the rows with their features as metadata, which hold the names of classes."""
    import pyarrow.parquet as pq

    table = dataset.with_format("arrow")[:]
    pq.write_table(table.replace_schema_metadata(dataset.features.arrow_schema.metadata), file)


def _with_plain_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with names of columns that are strings; numbers become their digits."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise BadInput(
            "the data frame has several levels of column names.",
            hint='Join them: frame.columns = ["_".join(names) for names in frame.columns].',
        )
    return frame.set_axis([str(name) for name in frame.columns], axis=1)


def _type_name(value: object) -> str:
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    return kind.__name__ if module == "builtins" else f"{module}.{kind.__name__}"


def _is_from_datasets(value: object, name: str) -> bool:
    """Whether `value` is of this class of `datasets`, which is not loaded to find out."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(value, getattr(datasets, name))
