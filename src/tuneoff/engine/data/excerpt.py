"""A few rows of a prepared task that stand for all of it: what a forecast tries a method on."""

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
"""Steps of a training that stand for all: their tokens are quantiles of those of all steps."""

PIECES = 12
"""Passes of a CPU that stand for an evaluation."""


@dataclass(frozen=True)
class Excerpt:
    """What was taken, and what it stands for."""

    path: Path
    """A prepared task of its own; its training rows stand in the order of their steps."""
    steps: int
    """Steps of one pass over the training rows taken."""
    extremes: int
    """How many of them, the first ones, are the largest of the training and no typical ones."""
    all_steps: int
    """Steps of one epoch of the whole task."""
    tokens: dict[str, int]
    """By split, of the rows taken; where they stand for all, in as many as those would take."""
    all_tokens: dict[str, int]
    rows: dict[str, int]
    all_rows: dict[str, int]

    def to_plain(self) -> dict[str, Any]:
        """As JSON holds it."""
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
    """Write an excerpt of the task in `task_path` into the new `folder`.

    Of the training, whole steps: the largest that a run with one of `seeds` comes to in `epochs`,
    which decide about its peak of memory, and `TYPICAL` ones. With `train_rows` as many rows
    instead, each label with its share, for methods that know no steps. Of the other splits, rows
    of all lengths.
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
    """The largest steps, and typical ones; all of an epoch where there are hardly more."""
    lengths = split.tokens.lengths
    largest: dict[str, tuple[int, Rows]] = {}
    first: list[Rows] = []
    for seed in seeds:
        order = np.random.default_rng(seed)  # as the training itself draws it
        for _ in range(epochs):
            drawn = list(steps(split, batch_size, order))
            first = first or drawn
            for by, power in (("tokens", 1), ("squares", 2)):  # memory grows by either
                sizes = [int((lengths[rows] ** power).sum()) for rows in drawn]
                at = int(np.argmax(sizes))
                if by not in largest or sizes[at] > largest[by][0]:
                    largest[by] = sizes[at], drawn[at]
    if len(first) <= TYPICAL + len(largest):
        return [], first
    whole = sorted(first[:-1], key=lambda rows: int(lengths[rows].sum()))
    places = ((np.arange(TYPICAL) + 0.5) / TYPICAL * len(whole)).astype(int)
    # In a mixed order: ever longer ones would make the resident set grow otherwise.
    mixed = np.random.default_rng(0).permutation(places)
    return [rows for _, rows in largest.values()], [whole[i] for i in mixed]


def _pieces(split: Split) -> Rows:
    """Rows of `PIECES` passes, of short texts as of long ones; all where there are no more."""
    pieces = by_tokens(split.tokens.lengths, np.arange(len(split)), CPU_TOKENS)
    places = ((np.arange(PIECES) + 0.5) / PIECES * len(pieces)).astype(int)
    taken = pieces if len(pieces) <= PIECES + 1 else [pieces[i] for i in places]
    return np.sort(np.concatenate(taken))


def _of_each_label(split: Split, count: int) -> Rows:
    """`count` rows, each label with its share."""
    by_label = np.argsort(split.labels, kind="stable")
    places = np.arange(min(count, len(split))) * len(split) // min(count, len(split))
    return np.sort(by_label[places])


def _write_tokens(store: TokenStore, rows: Rows, folder: Path) -> None:
    """A token store of some rows of another one."""
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
