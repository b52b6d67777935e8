"""How long one text takes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt

ROWS = 50
"""Texts that are answered at the most; the median of 50 is known well enough to hold a limit."""
LEAST_ROWS = 5
"""Texts that are answered however long they take; as many are answered before, to warm up."""
ENOUGH = 5.0
"""Seconds after which no further text is begun: a large model on a CPU takes seconds for one."""


def latency_seconds(answer: Callable[[int], object], lengths: npt.NDArray[np.int64]) -> float:
    """Median seconds that `answer` takes for a row.

    `answer` gets the position of one row, and returns when its answer is there. `lengths` (rows,)
    are those of the texts: the rows are taken evenly from the shortest to the longest.
    """
    rows = spread_rows(lengths)
    for row in rows[:LEAST_ROWS]:  # kernels, caches and buffers of the first calls
        answer(row)
    seconds: list[float] = []
    begun = now = time.perf_counter()
    for row in rows:
        if len(seconds) >= LEAST_ROWS and now - begun >= ENOUGH:
            break
        start = time.perf_counter()
        answer(row)
        now = time.perf_counter()
        seconds.append(now - start)
    return median(seconds)


def spread_rows(lengths: npt.NDArray[np.int64], count: int = ROWS) -> list[int]:
    """At most `count` positions, evenly from the shortest to the longest text.

    In an order that is the same each time and mixes the lengths, so that the first few of them
    stand for all.
    """
    order = np.argsort(lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    mixed: list[int] = np.random.default_rng(0).permutation(order[places]).tolist()
    return mixed
