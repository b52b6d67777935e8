"""McNemar's test of two models on the same rows, with or without groups of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuneoff.results.metrics import Floats, Integers


@dataclass(frozen=True)
class McNemar:
    """Numbers of rows that only one of two methods predicts correctly, and the P value.

    The numbers are means over all pairs of a run of the first and a run of the second method.
    """

    only_first: float
    """Number of rows that only the first method predicts correctly."""
    only_second: float
    """Number of rows that only the second method predicts correctly."""
    p: float
    """P value of the hypothesis that both models have the same accuracy."""


def mcnemar(correct: npt.NDArray[np.bool_], split: int, groups: Integers | None = None) -> McNemar:
    """Test whether two models are correct on equally many rows. The test is exact.

    The test is about the given models. With several seeds, each pair of runs is tested, and p is
    twice the median of the pairs' P values, which is valid under any dependence (Rüger 1978;
    DiCiccio, DiCiccio and Romano 2020, Exact tests via multiple data splitting, Statistics &
    Probability Letters 166). Row weights are ignored. Dietterich 1998, Approximate statistical
    tests for comparing supervised classification learning algorithms, Neural Computation 10.

    With groups of rows, the two models are exchanged within whole groups: under the hypothesis, the
    surplus of one model in a group could equally be the surplus of the other. Without groups this
    is the binomial test.

    Args:
        correct: (r, n) whether each run is correct; the first method's runs come first.
        split: Number of runs of the first method.
        groups: (n,) group numbers, equal for rows of one group.
    """
    one, other = correct[:split].astype(np.int64), correct[split:].astype(np.int64)
    only_first, only_second = one @ (1 - other).T, (1 - one) @ other.T
    if groups is None:
        p = _binomial(only_first, only_second)
    else:
        surplus = [np.bincount(groups, weights=first - second) for first in one for second in other]
        p = np.array([_exchanged(np.rint(of_group).astype(np.int64)) for of_group in surplus])
    return McNemar(
        float(only_first.mean()),
        float(only_second.mean()),
        float(p.item() if p.size == 1 else min(2 * np.median(p), 1.0)),
    )


def _binomial(only_first: Integers, only_second: Integers) -> Floats:
    from scipy.stats import binom

    fewer = np.minimum(only_first, only_second)
    p: Floats = np.minimum(2 * binom.cdf(fewer, only_first + only_second, 0.5), 1.0)
    return p


def _exchanged(surplus: Integers) -> float:
    """Return the probability of a total at least as far from 0 if the signs were random."""
    from scipy.signal import convolve
    from scipy.stats import binom

    sizes = np.bincount(np.abs(surplus))
    probability = np.ones(1)
    for size in np.flatnonzero(sizes[1:]) + 1:
        count = int(sizes[size])
        step = np.zeros(2 * size * count + 1)
        step[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        probability = np.maximum(convolve(probability, step), 0.0)
    total = np.abs(np.arange(len(probability)) - len(probability) // 2)
    return float(min(probability[total >= abs(int(surplus.sum()))].sum(), 1.0))
