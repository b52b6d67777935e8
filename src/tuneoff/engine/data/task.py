"""From a `DataSpec` to a task on disk that every run of a study reads.

A task's folder, `<study>/data/<key>/`, holds `rows.parquet` (split, row, text, text_pair, label,
weight, group), a token store per split, and `task.json`, which is written last: where it stands,
the rest is whole.
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
from tuneoff.tables.notes import told_of
from tuneoff.tables.source import Table, read_table

if TYPE_CHECKING:
    from tuneoff.engine.data.hidden_states import StateStore


@dataclass(frozen=True)
class Split:
    """One split of a task; all arrays are in the order of its rows."""

    name: str
    tokens: TokenStore
    labels: npt.NDArray[np.int64]
    """(rows,) positions in the task's label list."""
    weights: npt.NDArray[np.float32]
    """(rows,), 1 where no weight column was named."""
    rows: npt.NDArray[np.int64]
    """(rows,) 0-based row of the source file."""
    path: Path
    """The task's `rows.parquet`."""
    states: StateStore | None = None
    """What the frozen layers of a model give for the rows, where that is stored."""
    chosen: npt.NDArray[np.int64] | None = None
    """Positions of the rows that are trained on, ascending; None: all."""

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Of the rows that are trained on."""
        return np.arange(len(self)) if self.chosen is None else self.chosen

    def __len__(self) -> int:
        return len(self.labels)

    def texts(self) -> list[str]:
        """The texts themselves, read from disk at each call."""
        return _strings(self.path, self.name, "text") or []

    def pairs(self) -> list[str] | None:
        """The second texts, read from disk at each call; None where the task has no pairs."""
        return _strings(self.path, self.name, "text_pair")

    def groups(self) -> list[str] | None:
        """The groups, "" for none, read from disk at each call; None without a group column."""
        return _strings(self.path, self.name, "group")


@dataclass(frozen=True)
class Task:
    """A prepared task, opened."""

    record: TaskRecord
    labels: list[str]
    splits: dict[str, Split]
    """`train`, `validation`, `test`."""


@dataclass(frozen=True)
class FileReport:
    """One file, as `tuneoff check` shows it."""

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
    """Read, check, split and tokenise `data` into `folder/<key>/`, or reuse what stands there.

    `folder` is a study's `data/`; `model_path` a local folder with a fast tokenizer. The same
    rows, tokenizer and `max_length` give the same key, and the same files bit for bit. Raises
    `BadInput` for all that is wrong with the data before the tokenizer is loaded. Two processes
    may prepare the same task at once: the first one's files stay.
    """
    found = gather(data)
    path = Path(model_path)
    fingerprint = rows_fingerprint(found.splits, found.labels)
    key = task_key(fingerprint, path, model_type, max_length)
    names: dict[str, Any] = {
        "model": model,
        "model_fingerprint": model_fingerprint,
        "model_type": model_type,
        "columns": found.columns,
    }
    if not _is_whole(folder / key):
        tokenizer = load_tokenizer(path)
        folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder, prefix=f".{key}."))
        try:
            _write_rows(building / "rows.parquet", found.splits)
            start = time.perf_counter()
            for role, frame in found.splits.items():
                _tokenize(building / role, tokenizer, frame, max_length)
            tokenizing = time.perf_counter() - start
            record = replace(_record(found, building, key, fingerprint, max_length), **names)
            sync_tree(building)
            write_json(building / "task.json", record.to_plain())
            building.chmod(0o755)  # mkdtemp's 0700 would hide a shared study from its readers
            _move(building, folder / key)
            write_json(_seconds_file(folder / key), {"tokenize": tokenizing})
        finally:
            shutil.rmtree(building, ignore_errors=True)
    # Written again when reused, too: another model may share the tokenizer, and the task that
    # was prepared last is known by its file's time.
    stores = {role: TokenStore.open(folder / key / role) for role in found.splits}
    names["warnings"] = [
        *found.warnings,
        *(
            note
            for role, store in stores.items()
            for note in _token_notes(role, found.splits[role], store)
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
    """As `prepare`, with nothing left on disk."""
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
    """What stands in `data.train` alone, unsplit; `BadInput` as from `prepare`.

    A label of one row is a warning here: the splits may be meant to be files.
    """
    table = read_alone(data)
    labels = label_order(list(table.frame["label"].unique()))
    tokenizer = load_tokenizer(Path(model_path))
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        store = _tokenize(Path(folder) / "file", tokenizer, table.frame, max_length)
        lengths = store.full_lengths
        notes = _token_notes("", table.frame, store)
    single = told_of(
        "rows that are the only one of their label, of which none can be held out for a test",
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
    """The rows of `data.train` as they are, without a role; `BadInput` as from `prepare`."""
    columns, notes = choose_columns(data.train, Columns.of(data))
    table = read_table(data.train, columns, "test")
    if issues := single_label(replace(data, label=columns.label), table):
        raise BadInput(issues)
    return replace(table, warnings=[*notes, *table.warnings])


def open_task(path: str | Path, roles: Sequence[str] = ROLES) -> Task:
    """Open a prepared task, `path` being `<study>/data/<key>`; `BadInput` if there is none.

    Of the splits that `roles` leaves out, no row is kept and no token store is opened.
    """
    path = Path(path)
    if not (path / "task.json").is_file():
        raise BadInput(Issue("holds no prepared task (no task.json)", file=str(path)))
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
    """What tokenising the task in `path` took, whenever it was; None where nobody knows."""
    try:
        seconds: float = json.loads(_seconds_file(path).read_text(encoding="utf-8"))["tokenize"]
    except (OSError, ValueError, KeyError):
        return None
    return seconds


def _seconds_file(path: Path) -> Path:
    """Beside the task: its own files are the same bit for bit, however long they took."""
    return path.with_name(f"{path.name}.seconds.json")


def _tokenize(folder: Path, tokenizer: Any, frame: pd.DataFrame, max_length: int) -> TokenStore:
    pairs = frame["text_pair"].tolist() if "text_pair" in frame else None
    return TokenStore.build(folder, tokenizer, frame["text"].tolist(), pairs, max_length)


def _token_notes(role: str, frame: pd.DataFrame, store: TokenStore) -> list[str]:
    """What becomes of the texts of `frame` as tokens: cut, or not one of them known."""
    rows = f"{role} rows".strip()
    return [
        *told_of(
            f"{rows} of more than {store.max_length} tokens, which are cut",
            frame,
            store.full_lengths > store.max_length,
        ),
        *told_of(f"{rows} of which the tokenizer knows no word", frame, store.unknown),
    ]


def _write_rows(file: Path, splits: dict[str, pd.DataFrame]) -> None:
    table = pd.concat(splits, names=["split"]).reset_index("split").reset_index(drop=True)
    order = ["split", "row", "text", "text_pair", "label", "weight", "group"]
    table[[name for name in order if name in table]].to_parquet(file, index=False)


def _record(
    found: Gathered, folder: Path, key: str, fingerprint: str, max_length: int
) -> TaskRecord:
    lengths = {role: TokenStore.open(folder / role).full_lengths for role in found.splits}
    train = found.splits["train"]
    return TaskRecord(
        fingerprint=fingerprint,
        key=key,
        labels=found.labels,
        pair="text_pair" in train,
        max_length=max_length,
        splits={
            role: split_record(frame, found.labels, lengths[role], max_length)
            for role, frame in found.splits.items()
        },
        shared_rows=shared_counts(found.splits),
        lengths_by_label=lengths_by_label(train, found.labels, lengths["train"]),
        model="",
        model_fingerprint="",
        model_type="",
    )


def _move(building: Path, target: Path) -> None:
    """Put a finished folder in its place, unless another process was first."""
    if target.exists() and not _is_whole(target):
        shutil.rmtree(target)  # left half-way by another version or a copy
    try:
        os.replace(building, target)
    except OSError:
        if not _is_whole(target):
            raise


def _is_whole(path: Path) -> bool:
    """Whether all files of a task are there; one that vanished is made again."""
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
