"""Representative excerpts of a prepared task, on which a forecast runs a method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.engine.data.batches import CPU_TOKENS, by_tokens, steps
from tuneoff.engine.data.task import Split, Task, open_task
from tuneoff.engine.data.tokens import TokenStore
from tuneoff.results.store import write_json

Rows = npt.NDArray[np.int64]

TYPICAL = 8
"""Number of typical training steps; their token counts are quantiles of those of all steps."""

PIECES = 12
"""Number of forward passes (in the size for a CPU) that represent an evaluation."""


@dataclass(frozen=True)
class Excerpt:
    """An excerpt, and the size of the task that it represents."""

    path: Path
    """Folder of the excerpt, a prepared task; its training rows are in the order of the steps."""
    steps: int
    """Training steps of one epoch of the excerpt."""
    extremes: int
    """The first `extremes` steps are the largest ones of the training; the others are typical."""
    all_steps: int
    """Training steps of one epoch of the whole task."""
    tokens: dict[str, int]
    """Tokens of the excerpt, by split."""
    all_tokens: dict[str, int]
    """Tokens of the whole task, by split."""
    rows: dict[str, int]
    """Rows of the excerpt, by split."""
    all_rows: dict[str, int]
    """Rows of the whole task, by split."""

    def to_plain(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return {**asdict(self), "path": str(self.path)}


def take_excerpt(
    task_path: Path,
    folder: Path,
    *,
    batch_size: int,
    epochs: int,
    seeds: Sequence[int],
    train_rows: int | None = None,
) -> Excerpt:
    """Write an excerpt of a prepared task into a new folder.

    The training rows are those of complete steps: the largest steps of all seeds and epochs, which
    determine the peak memory, and `TYPICAL` typical ones. The rows of the other splits have all
    lengths.

    Args:
        task_path: Folder of the prepared task.
        folder: Folder to create.
        batch_size: Rows of a training step.
        epochs: Epochs of a run.
        seeds: Seeds of the runs.
        train_rows: For methods without steps: number of training rows, stratified by label.
    """
    task = open_task(task_path)
    chosen = {name: _pieces(s) for name, s in task.splits.items() if name != "train"}
    train = task.splits["train"]
    extremes: list[Rows] = []
    if train_rows is None:
        extremes, typical = _steps(train, batch_size, epochs, seeds)
        chosen["train"] = np.concatenate([*extremes, *typical])
    else:
        chosen["train"] = _of_each_label(train, train_rows)
    folder.mkdir(parents=True)
    frame = pd.read_parquet(task_path / "rows.parquet")
    frames = []
    for name in task.splits:
        frames.append(frame[frame["split"] == name].iloc[chosen[name]])
        _write_tokens(task.splits[name].tokens, chosen[name], folder / name)
    pd.concat(frames, ignore_index=True).to_parquet(folder / "rows.parquet", index=False)
    write_json(folder / "task.json", task.record.to_plain())
    return _counted(task, chosen, folder, batch_size, len(extremes))


def _counted(
    task: Task, chosen: dict[str, Rows], folder: Path, batch_size: int, extremes: int
) -> Excerpt:
    lengths = {name: split.tokens.lengths for name, split in task.splits.items()}
    return Excerpt(
        path=folder,
        steps=-(-len(chosen["train"]) // batch_size),
        extremes=extremes,
        all_steps=-(-len(task.splits["train"]) // batch_size),
        tokens={name: int(lengths[name][rows].sum()) for name, rows in chosen.items()},
        all_tokens={name: int(own.sum()) for name, own in lengths.items()},
        rows={name: len(rows) for name, rows in chosen.items()},
        all_rows={name: len(own) for name, own in lengths.items()},
    )


def _steps(
    split: Split, batch_size: int, epochs: int, seeds: Sequence[int]
) -> tuple[list[Rows], list[Rows]]:
    """Return the largest steps and typical steps; all steps of an epoch if it has few."""
    lengths = split.tokens.lengths
    largest: dict[str, tuple[int, Rows]] = {}
    first: list[Rows] = []
    for seed in seeds:
        order = np.random.default_rng(seed)  # the same order as in training
        for _ in range(epochs):
            drawn = list(steps(split, batch_size, order))
            first = first or drawn
            for by, power in (("tokens", 1), ("squares", 2)):  # memory can grow with either
                sizes = [int((lengths[rows] ** power).sum()) for rows in drawn]
                place = int(np.argmax(sizes))
                if by not in largest or sizes[place] > largest[by][0]:
                    largest[by] = sizes[place], drawn[place]
    if len(first) <= TYPICAL + len(largest):
        return [], first
    by_size = sorted(first[:-1], key=lambda rows: int(lengths[rows].sum()))
    places = ((np.arange(TYPICAL) + 0.5) / TYPICAL * len(by_size)).astype(int)
    # In random order, because with increasing lengths the resident set would keep growing.
    shuffled = np.random.default_rng(0).permutation(places)
    return [rows for _, rows in largest.values()], [by_size[i] for i in shuffled]


def _pieces(split: Split) -> Rows:
    """Return the rows of `PIECES` forward passes, short to long texts; all if there are few."""
    pieces = by_tokens(split.tokens.lengths, np.arange(len(split)), CPU_TOKENS)
    places = ((np.arange(PIECES) + 0.5) / PIECES * len(pieces)).astype(int)
    taken = pieces if len(pieces) <= PIECES + 1 else [pieces[i] for i in places]
    return np.sort(np.concatenate(taken))


def _of_each_label(split: Split, count: int) -> Rows:
    """Return `count` rows, stratified by label."""
    by_label = np.argsort(split.labels, kind="stable")
    places = np.arange(min(count, len(split))) * len(split) // min(count, len(split))
    return np.sort(by_label[places])


def _write_tokens(store: TokenStore, rows: Rows, folder: Path) -> None:
    """Write a token store with some rows of another one."""
    folder.mkdir()
    spans = [slice(store.offsets[row], store.offsets[row + 1]) for row in rows]
    np.concatenate([store.ids[span] for span in spans]).tofile(folder / "ids.bin")
    if store.type_ids is not None:
        np.concatenate([store.type_ids[span] for span in spans]).tofile(folder / "type_ids.bin")
    np.save(folder / "offsets.npy", np.concatenate(([0], np.cumsum(store.lengths[rows]))))
    np.save(folder / "full_lengths.npy", store.full_lengths[rows])
    np.save(folder / "unknown.npy", store.unknown[rows])
    meta = json.loads((store.path / "meta.json").read_text(encoding="utf-8"))
    write_json(folder / "meta.json", meta | {"rows": len(rows)})
