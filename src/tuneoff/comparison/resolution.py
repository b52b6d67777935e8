"""Numbers of seeds or test rows that would resolve a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

from tuneoff.comparison.statistics import Difference, MethodVariance
from tuneoff.results.summary import Needed, Whose

POWER = 0.8
"""Probability that the stated seeds or rows resolve the comparison."""
MOST_SEEDS = 100
"""Largest number of seeds that is stated; more are unrealistic."""
MOST_ROWS = 10_000_000
"""Largest number of test rows that is stated."""
UNEVEN = 4.0
"""Ratio of two methods' variances above which more seeds of only one of them are suggested."""


@dataclass(frozen=True)
class Threshold:
    """Number of standard errors that a claim requires, given all pairs of its family."""

    different: float
    equivalent: float


def needed(found: Difference, margin: float, threshold: Threshold) -> Needed:
    """Estimate the seeds or test rows that would resolve a difference with a power of 80 %.

    The estimate assumes that the true difference and variances equal the estimated ones.

    Args:
        found: The unresolved difference.
        margin: Largest difference that is irrelevant in practice.
        threshold: Standard errors that a claim requires.

    Returns:
        `seeds` that suffice; `of` which methods: `both`, or only the `first` or `second` if the
        other one's mean is known much better; `rows` that suffice; and `both`, [seeds, rows], if
        neither suffices alone. None for what does not suffice.
    """
    of = _whose(found)
    seeds = seeds_needed(found, margin, threshold, of)
    if seeds is None:
        of, seeds = "both", seeds_needed(found, margin, threshold)
    rows = rows_needed(found, margin, threshold)
    alone = seeds is not None or rows is not None
    together = None if alone else both_needed(found, margin, threshold)
    return {"seeds": seeds, "of": of, "rows": rows, "both": list(together) if together else None}


def _whose(found: Difference) -> Whose:
    one, other = found.first.variance, found.second.variance
    return "first" if one > UNEVEN * other else "second" if other > UNEVEN * one else "both"


def seeds_needed(
    found: Difference, margin: float, threshold: Threshold, of: Whose = "both"
) -> int | None:
    """Return the seeds of one or both methods that would resolve it on the present test rows.

    None if the other variance alone is too large, or if the variance between seeds is unknown.
    """
    first = found.first.spread if of != "second" else 0.0
    second = found.second.spread if of != "first" else 0.0
    fixed = found.shared
    fixed += found.first.variance if of == "second" else 0.0
    fixed += found.second.variance if of == "first" else 0.0
    now = {"first": found.first.seeds, "second": found.second.seeds}
    least = now.get(of, max(now.values())) + 1
    return _enough(
        first + second, _largest_variance(found, margin, threshold) - fixed, least, MOST_SEEDS
    )


def rows_needed(found: Difference, margin: float, threshold: Threshold) -> int | None:
    """Return the test rows that would resolve it with the present seeds; None if none would."""
    sides = (found.first, found.second)
    fixed = sum((side.spread - side.noise) / side.seeds for side in sides)
    of_a_row = (sum(side.noise / side.seeds for side in sides) + found.shared) * found.rows
    left = _largest_variance(found, margin, threshold) - fixed
    return _enough(of_a_row, left, found.rows + 1, MOST_ROWS)


def both_needed(found: Difference, margin: float, threshold: Threshold) -> tuple[int, int] | None:
    """Return the (seeds, rows) that would resolve it together, if neither would alone.

    The number of seeds is doubled until some number of rows suffices.
    """

    def more(side: MethodVariance) -> MethodVariance:
        return replace(side, seeds=seeds) if side.spread else side

    seeds = max(found.first.seeds, found.second.seeds, 2)
    while (seeds := 2 * seeds) <= MOST_SEEDS:
        expected = replace(found, first=more(found.first), second=more(found.second))
        rows = rows_needed(expected, margin, threshold)
        if rows is not None:
            return seeds, rows
    return None


def chance(found: Difference, margin: float, threshold: Threshold, seeds: int) -> float:
    """Return the probability that `seeds` seeds of each method resolve it, given the present data.

    This is the predictive power with a flat prior: Spiegelhalter, Freedman and Blackburn 1986,
    Monitoring clinical trials: conditional or predictive power?, Controlled Clinical Trials 7. It
    uses one-sided thresholds, which suffice to rule out a method as the best.
    """

    def more(side: MethodVariance) -> MethodVariance:
        return replace(side, seeds=max(side.seeds, seeds))

    then = replace(found, first=more(found.first), second=more(found.second))
    moves = math.sqrt(max(found.standard_error**2 - then.standard_error**2, 0.0))
    at_least = threshold.equivalent * then.standard_error
    size = NormalDist(abs(found.difference), max(moves, 1e-12))
    different = 1 - size.cdf(at_least) + size.cdf(-at_least)
    within = margin - at_least
    equivalent = size.cdf(within) - size.cdf(-within) if within > 0 else 0.0
    return min(different + equivalent, 1.0)


def _largest_variance(found: Difference, margin: float, threshold: Threshold) -> float:
    """Return the largest variance of the difference at which one of the claims has its power."""
    size, reserve = abs(found.difference), NormalDist().inv_cdf(POWER)
    different = size / (threshold.different + reserve)
    equivalent = max(margin - size, 0.0) / (threshold.equivalent + reserve)
    return max(different, equivalent) ** 2


def _enough(of_one: float, allowed: float, least: int, most: int) -> int | None:
    """Return the sample size, at least `least`, at which a variance `of_one` falls to `allowed`."""
    if of_one <= 0 or allowed <= of_one / most:
        return None
    return max(math.ceil(of_one / allowed), least)
