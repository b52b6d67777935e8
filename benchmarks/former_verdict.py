"""Statistical procedure of tuneoff 0.1, before variances were moderated, for comparison.

Each method has its own variance between seeds, with Welch's and Satterthwaite's degrees of
freedom. The error due to the rows has a separate interval, and the squares of the two are added
(Howe 1974). P values are adjusted over all pairs by Holm's procedure.
"""

from __future__ import annotations

import math
from itertools import combinations

from scipy.optimize import brentq
from scipy.special import stdtrit

from tuneoff.comparison.simultaneous import holm
from tuneoff.comparison.statistics import LEVEL, MethodMeans


def former_claims(means: MethodMeans, rows: int) -> dict[tuple[str, str], str]:
    """Return the answer for each pair of the methods `m0`, `m1`, …; equivalence is not tested."""
    pairs = list(combinations(range(len(means.means)), 2))
    adjusted = holm([_p_value(means, i, j, rows) for i, j in pairs])
    found = {}
    for (i, j), p in zip(pairs, adjusted, strict=True):
        said = "better" if means.means[i] > means.means[j] else "worse"
        found[f"m{i}", f"m{j}"] = said if p < LEVEL else "not_resolved"
    return found


def _p_value(means: MethodMeans, i: int, j: int, rows: int) -> float:
    found = means.difference(i, j)
    size = abs(found.difference)
    if size == 0:
        return 1.0
    parts = [
        (max(means.sample[k], means.sides[k].noise) / means.sides[k].seeds, means.sides[k].seeds)
        for k in (i, j)
    ]
    seeds = sum(part for part, _ in parts)
    doubt = sum(part**2 / max(k - 1, 1) for part, k in parts)
    freedom = max(seeds**2 / doubt, 1.0) if doubt else 1.0

    def reach(exponent: float) -> float:
        tail = 10**exponent
        of_seeds = stdtrit(freedom, tail) ** 2 * seeds
        return math.sqrt(of_seeds + stdtrit(rows - 1, tail) ** 2 * found.shared) - size

    least = -12.0
    if reach(least) <= 0:
        return float(2 * 10**least)
    return float(2 * 10 ** brentq(reach, least, math.log10(0.5)))
