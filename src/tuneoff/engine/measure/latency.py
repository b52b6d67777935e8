"""Latency of single texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt

ROWS = 50
"""Maximum number of texts. The median of 50 is precise enough to check a maximum latency."""
LEAST_ROWS = 5
"""Minimum number of texts, however long they take. As many are predicted before, as warm-up."""
ENOUGH = 5.0
"""Time limit in seconds: no text is started after it. A large model on a CPU takes seconds each."""


def latency_seconds(answer: Callable[[int], object], lengths: npt.NDArray[np.int64]) -> float:
    """Measure the median time of a prediction for a single text, in seconds.

    Args:
        answer: Predicts the row at a position, and returns after the result is available.
        lengths: (rows,) lengths of the texts. The rows are chosen evenly from the shortest to the
            longest.
    """
    rows = spread_rows(lengths)
    for row in rows[:LEAST_ROWS]:  # the first calls build kernels and fill caches
        answer(row)
    seconds: list[float] = []
    first_start = now = time.perf_counter()
    for row in rows:
        if len(seconds) >= LEAST_ROWS and now - first_start >= ENOUGH:
            break
        start = time.perf_counter()
        answer(row)
        now = time.perf_counter()
        seconds.append(now - start)
    return median(seconds)


def spread_rows(lengths: npt.NDArray[np.int64], count: int = ROWS) -> list[int]:
    """Return at most `count` positions, chosen evenly from the shortest to the longest text.

    Their order is always the same and mixes the lengths, so that the first few are representative.
    """
    order = np.argsort(lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    mixed: list[int] = np.random.default_rng(0).permutation(order[places]).tolist()
    return mixed
