"""Subsamples of the training rows, for trials that train on a part of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tuneoff.engine.data.task import Task


def with_rows(task: Task, count: int | None, seed: int) -> Task:
    """Return `task` with a stratified subsample of its training rows.

    With the same seed, a smaller subsample is part of a larger one. The other splits are unchanged.

    Args:
        task: The task.
        count: Number of training rows; None: all.
        seed: Seed of the draw.
    """
    train = task.splits["train"]
    if count is None or count >= len(train):
        return task
    chosen = np.sort(_dealt(train.labels, seed)[:count])
    return replace(task, splits=task.splits | {"train": replace(train, chosen=chosen)})


def _dealt(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return the positions in a random order in which any first n rows are stratified by label."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    rank = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    return by_label[np.argsort(rank, kind="stable")]
