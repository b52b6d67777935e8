"""Conversion of data frames and `datasets` objects to files that a study can refer to."""

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
"""Usual split names of a `DatasetDict` for each role; the first name that exists is used."""


def as_sources(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the `data` section of a study, with objects replaced by files.

    A `DatasetDict` given as `train` also provides the splits for validation and test, unless they
    are given.

    Args:
        data: The `data` section, whose `train`, `validation` and `test` may be objects.
        folder: Folder to which the objects are written.

    Raises:
        BadInput: An object has an unsupported type or cannot be written.

    Warns:
        UserWarning: Splits of the `DatasetDict` are not used.
    """
    sources = dict(data)
    splits: Any = sources.get("train")
    if _is_from_datasets(splits, "DatasetDict"):
        if "train" not in splits:
            raise BadInput(
                f"train is a DatasetDict without a split 'train' (splits: {', '.join(splits)}).",
                hint="Pass the split to train on: train=splits[...].",
            )
        known = {"train"}
        for role, names in SPLITS.items():
            name = next((name for name in names if name in splits), None)
            if name is not None:
                known.add(name)
                sources.setdefault(role, splits[name])
        sources["train"] = splits["train"]
        if rest := [repr(name) for name in splits if name not in known]:
            text = f"the splits {', '.join(rest)} of the DatasetDict are not used"
            warnings.warn(f"{text}; to use one, pass e.g. test=splits[...]", stacklevel=4)
    for role in ROLES:
        if role in sources:
            sources[role] = as_source(sources[role], folder / f"{role}.parquet")
    return sources


def as_source(value: Any, file: Path) -> Any:
    """Write a data frame or `Dataset` to `file` and return its path; return other values as given.

    Raises:
        BadInput: The object has an unsupported type or cannot be written.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_dataset = _is_from_datasets(value, "Dataset")
    if not is_dataset and not isinstance(value, pd.DataFrame):
        raise BadInput(
            f"{file.stem} has the unsupported type {_type_name(value)}.",
            hint="Pass the path of a file, a pandas.DataFrame or a datasets.Dataset; train also"
            " accepts a DatasetDict.",
        )
    check_writable(file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        if is_dataset:
            _write_dataset(value, file)
        else:
            _with_plain_names(value).to_parquet(file, index=False)
    except (ValueError, TypeError) as error:  # base classes of pyarrow's exceptions
        raise BadInput(
            f"the {_type_name(value)} for {file.stem!r} cannot be written:"
            f" {(str(error).splitlines() or ['?'])[0][:300]}",
            hint="All values of a column must have the same type, e.g. str.",
        ) from None
    return str(file)


def _write_dataset(dataset: Any, file: Path) -> None:
    """Write the rows, with the features of the data set, which name the classes, as metadata."""
    import pyarrow.parquet as pq

    table = dataset.with_format("arrow")[:]
    pq.write_table(table.replace_schema_metadata(dataset.features.arrow_schema.metadata), file)


def _with_plain_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with column names converted to strings."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise BadInput(
            "the data frame has a MultiIndex as columns.",
            hint='Join the levels: frame.columns = ["_".join(names) for names in frame.columns].',
        )
    return frame.set_axis([str(name) for name in frame.columns], axis=1)


def _type_name(value: object) -> str:
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    return kind.__name__ if module == "builtins" else f"{module}.{kind.__name__}"


def _is_from_datasets(value: object, name: str) -> bool:
    """Return whether `value` is of this class of `datasets`, without importing the package."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(value, getattr(datasets, name))
