"""A share of the training rows, for trials that need not see all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tuneoff.engine.data.task import Task


def with_rows(task: Task, count: int | None, seed: int) -> Task:
    """`task` trained on `count` of its training rows, each label with its share; None: on all.

    A smaller share is part of a larger one at the same seed. Validation rows are left as they are.
    """
    train = task.splits["train"]
    if count is None or count >= len(train):
        return task
    chosen = np.sort(_dealt(train.labels, seed)[:count])
    return replace(task, splits=task.splits | {"train": replace(train, chosen=chosen)})


def _dealt(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Positions in an order any beginning of which holds each label by its share."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    rank = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    return by_label[np.argsort(rank, kind="stable")]
