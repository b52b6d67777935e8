"""Prepared tasks: the data of a `DataSpec` on disk, as all runs of a study read it.

The folder of a task, `<study>/data/<key>/`, contains `rows.parquet` (split, row, text, text_pair,
label, weight, group), a token store for each split, and `task.json`. The latter is written last, so
if it exists, the task is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.config import DataSpec
from tuneoff.engine.data.check import shared_counts, single_label, split_warnings
from tuneoff.engine.data.explore import lengths_by_label, split_record
from tuneoff.engine.data.fingerprint import rows_fingerprint, task_key
from tuneoff.engine.data.gather import ROLES, Gathered, gather
from tuneoff.engine.data.split import label_order
from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.data.tokens import TokenStore
from tuneoff.exceptions import BadInput, Issue
from tuneoff.results.record import Quantiles, SplitRecord, TaskRecord
from tuneoff.results.store import sync_tree, write_json
from tuneoff.tables.choose import choose_columns
from tuneoff.tables.columns import Columns
from tuneoff.tables.notes import row_warnings
from tuneoff.tables.source import Table, read_table

if TYPE_CHECKING:
    from tuneoff.engine.data.hidden_states import StateStore


@dataclass(frozen=True)
class Split:
    """One split of a task; all arrays are in the order of its rows."""

    name: str
    tokens: TokenStore
    labels: npt.NDArray[np.int64]
    """Index of each row's label in the label list of the task, of shape (rows,)."""
    weights: npt.NDArray[np.float32]
    """Weight of each row, 1 without a weight column; of shape (rows,)."""
    rows: npt.NDArray[np.int64]
    """Row of the source file, from 0; of shape (rows,)."""
    path: Path
    """The `rows.parquet` of the task."""
    states: StateStore | None = None
    """Cached output of a model's frozen layers; None without a cache."""
    chosen: npt.NDArray[np.int64] | None = None
    """Positions of the rows to train on, ascending; None: all."""

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Positions of the rows to train on."""
        return np.arange(len(self)) if self.chosen is None else self.chosen

    def __len__(self) -> int:
        return len(self.labels)

    def texts(self) -> list[str]:
        """Return the texts; each call reads them from disk."""
        return _strings(self.path, self.name, "text") or []

    def pairs(self) -> list[str] | None:
        """Return the second texts; each call reads them. None if the task has no pairs."""
        return _strings(self.path, self.name, "text_pair")

    def groups(self) -> list[str] | None:
        """Return the groups, "" for none; each call reads them. None without a group column."""
        return _strings(self.path, self.name, "group")


@dataclass(frozen=True)
class Task:
    """An opened task."""

    record: TaskRecord
    labels: list[str]
    splits: dict[str, Split]
    """The splits `train`, `validation` and `test`."""


@dataclass(frozen=True)
class FileReport:
    """Statistics and warnings of one file, as shown by `tuneoff check`."""

    source: str
    split: SplitRecord
    labels: list[str]
    lengths_by_label: dict[str, Quantiles]
    warnings: Sequence[str]


def prepare(
    data: DataSpec,
    *,
    model: str,
    model_path: str | Path,
    model_fingerprint: str,
    model_type: str,
    max_length: int,
    folder: Path,
) -> TaskRecord:
    """Read, check, split and tokenise data into `folder/<key>/`, or reuse the task in this folder.

    The same rows, tokenizer and `max_length` result in the same key and bit-identical files. Two
    processes may prepare the same task at once: the files of the first one are kept.

    Args:
        data: The data.
        model: Name of the model, for the record.
        model_path: Local folder with a fast tokenizer.
        model_fingerprint: Fingerprint of the model, for the record.
        model_type: Transformers' `model_type` of the model.
        max_length: Number of tokens to which texts are truncated.
        folder: The folder `data/` of a study.

    Raises:
        BadInput: The data are invalid. All issues are reported together, before the tokenizer is
            loaded.
    """
    gathered = gather(data)
    path = Path(model_path)
    fingerprint = rows_fingerprint(gathered.splits, gathered.labels)
    key = task_key(fingerprint, path, model_type, max_length)
    names: dict[str, Any] = {
        "model": model,
        "model_fingerprint": model_fingerprint,
        "model_type": model_type,
        "columns": gathered.columns,
    }
    if not _is_whole(folder / key):
        tokenizer = load_tokenizer(path)
        folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder, prefix=f".{key}."))
        try:
            _write_rows(building / "rows.parquet", gathered.splits)
            start = time.perf_counter()
            for role, frame in gathered.splits.items():
                _tokenize(building / role, tokenizer, frame, max_length)
            tokenizing = time.perf_counter() - start
            record = replace(_record(gathered, building, key, fingerprint, max_length), **names)
            sync_tree(building)
            write_json(building / "task.json", record.to_plain())
            building.chmod(0o755)  # mkdtemp sets 0700: other users could not read the study
            _move(building, folder / key)
            write_json(_seconds_file(folder / key), {"tokenize": tokenizing})
        finally:
            shutil.rmtree(building, ignore_errors=True)
    # Also written if the task is reused: another model may have the same tokenizer, and the
    # modification time of the file shows which task was prepared last.
    stores = {role: TokenStore.open(folder / key / role) for role in gathered.splits}
    names["warnings"] = [
        *gathered.warnings,
        *(
            note
            for role, store in stores.items()
            for note in _token_notes(role, gathered.splits[role], store)
        ),
    ]
    record = replace(_read_record(folder / key), **names)
    write_json(folder / key / "task.json", record.to_plain())
    return record


def inspect(
    data: DataSpec,
    *,
    model: str,
    model_path: str | Path,
    model_fingerprint: str,
    model_type: str,
    max_length: int,
) -> TaskRecord:
    """Return the same as `prepare`, but leave nothing on disk."""
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        return prepare(
            data,
            model=model,
            model_path=model_path,
            model_fingerprint=model_fingerprint,
            model_type=model_type,
            max_length=max_length,
            folder=Path(folder),
        )


def check_file(data: DataSpec, *, model_path: str | Path, max_length: int) -> FileReport:
    """Check the file `data.train` alone, without splitting it.

    A label with one row causes a warning here and not an error, because the user may have the other
    splits in files.

    Args:
        data: The data; only the file `train` is read.
        model_path: Local folder with a fast tokenizer.
        max_length: Number of tokens to which texts are truncated.

    Raises:
        BadInput: The file is invalid, as in `prepare`.
    """
    table = read_alone(data)
    labels = label_order(list(table.frame["label"].unique()))
    tokenizer = load_tokenizer(Path(model_path))
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        store = _tokenize(Path(folder) / "file", tokenizer, table.frame, max_length)
        lengths = store.full_lengths
        notes = _token_notes("", table.frame, store)
    single = row_warnings(
        "rows that are the only one with their label, so that none can be held out for testing",
        table.frame,
        ~table.frame["label"].duplicated(keep=False).to_numpy(),
    )
    return FileReport(
        source=data.train,
        split=split_record(table.frame, labels, lengths, max_length),
        labels=labels,
        lengths_by_label=lengths_by_label(table.frame, labels, lengths),
        warnings=[*table.warnings, *single, *split_warnings({"": table.frame}), *notes],
    )


def read_alone(data: DataSpec) -> Table:
    """Read the file `data.train` without splitting it; raise `BadInput` as in `prepare`."""
    columns, notes = choose_columns(data.train, Columns.of(data))
    table = read_table(data.train, columns, "test")
    if issues := single_label(replace(data, label=columns.label), table):
        raise BadInput(issues)
    return replace(table, warnings=[*notes, *table.warnings])


def open_task(path: str | Path, roles: Sequence[str] = ROLES) -> Task:
    """Open a prepared task.

    Args:
        path: Folder of the task, `<study>/data/<key>`.
        roles: Splits to open; nothing is kept in memory for the others.

    Raises:
        BadInput: There is no prepared task in the folder.
    """
    path = Path(path)
    if not (path / "task.json").is_file():
        raise BadInput(Issue("the folder has no prepared task (no task.json)", file=str(path)))
    record = _read_record(path)
    rows = pd.read_parquet(
        path / "rows.parquet",
        columns=["split", "row", "label", "weight"],
        filters=[("split", "in", list(roles))],
    )
    positions = {label: i for i, label in enumerate(record.labels)}
    splits: dict[str, Split] = {}
    for role in roles:
        own = rows[rows["split"] == role]
        splits[role] = Split(
            name=role,
            tokens=TokenStore.open(path / role),
            labels=np.array([positions[label] for label in own["label"]], np.int64),
            weights=own["weight"].to_numpy(np.float32),
            rows=own["row"].to_numpy(np.int64),
            path=path / "rows.parquet",
        )
    return Task(record, record.labels, splits)


def tokenize_seconds(path: Path) -> float | None:
    """Return the seconds that tokenisation took when the task in `path` was prepared, or None."""
    try:
        seconds: float = json.loads(_seconds_file(path).read_text(encoding="utf-8"))["tokenize"]
    except (OSError, ValueError, KeyError):
        return None
    return seconds


def _seconds_file(path: Path) -> Path:
    """Return a file outside the task's folder, because the files in it must be reproducible."""
    return path.with_name(f"{path.name}.seconds.json")


def _tokenize(folder: Path, tokenizer: Any, frame: pd.DataFrame, max_length: int) -> TokenStore:
    pairs = frame["text_pair"].tolist() if "text_pair" in frame else None
    return TokenStore.build(folder, tokenizer, frame["text"].tolist(), pairs, max_length)


def _token_notes(role: str, frame: pd.DataFrame, store: TokenStore) -> list[str]:
    """Return warnings about texts that are truncated or have only unknown tokens."""
    rows = f"{role} rows".strip()
    return [
        *row_warnings(
            f"{rows} with more than {store.max_length} tokens, which are truncated",
            frame,
            store.full_lengths > store.max_length,
        ),
        *row_warnings(f"{rows} with only unknown tokens", frame, store.unknown),
    ]


def _write_rows(file: Path, splits: dict[str, pd.DataFrame]) -> None:
    table = pd.concat(splits, names=["split"]).reset_index("split").reset_index(drop=True)
    order = ["split", "row", "text", "text_pair", "label", "weight", "group"]
    table[[name for name in order if name in table]].to_parquet(file, index=False)


def _record(
    gathered: Gathered, folder: Path, key: str, fingerprint: str, max_length: int
) -> TaskRecord:
    lengths = {role: TokenStore.open(folder / role).full_lengths for role in gathered.splits}
    train = gathered.splits["train"]
    return TaskRecord(
        fingerprint=fingerprint,
        key=key,
        labels=gathered.labels,
        pair="text_pair" in train,
        max_length=max_length,
        splits={
            role: split_record(frame, gathered.labels, lengths[role], max_length)
            for role, frame in gathered.splits.items()
        },
        shared_rows=shared_counts(gathered.splits),
        lengths_by_label=lengths_by_label(train, gathered.labels, lengths["train"]),
        model="",
        model_fingerprint="",
        model_type="",
    )


def _move(building: Path, target: Path) -> None:
    """Move the folder `building` to `target`, unless another process was faster."""
    if target.exists() and not _is_whole(target):
        shutil.rmtree(target)  # incomplete, from another version or an interrupted copy
    try:
        os.replace(building, target)
    except OSError:
        if not _is_whole(target):
            raise


def _is_whole(path: Path) -> bool:
    """Return whether all files of a task exist; an incomplete task is prepared again."""
    if not (path / "task.json").is_file() or not (path / "rows.parquet").is_file():
        return False
    try:
        stores = [TokenStore.open(path / role) for role in ROLES]
        return all(len(store.full_lengths) == len(store) for store in stores)
    except (OSError, ValueError, KeyError):
        return False


def _read_record(path: Path) -> TaskRecord:
    return TaskRecord.from_plain(json.loads((path / "task.json").read_text(encoding="utf-8")))


def _strings(file: Path, split: str, column: str) -> list[str] | None:
    import pyarrow.parquet as pq

    if column not in pq.read_schema(file).names:
        return None
    table = pq.read_table(file, columns=[column], filters=[("split", "==", split)])
    strings: list[str] = table.column(column).to_pylist()
    return strings
