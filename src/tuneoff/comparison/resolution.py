"""What would resolve a comparison: more seeds, more test rows, both, or nothing in reach."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

from tuneoff.comparison.statistics import Difference, Side

POWER = 0.8
"""Probability with which the seeds or rows that are named would resolve it."""
MOST_SEEDS = 100
MOST_ROWS = 10_000_000
"""Nobody runs more: beyond these no number is named."""
UNEVEN = 4.0
"""Ratio of two methods' variances from which more seeds of one of them alone are named."""

Whose = Literal["both", "first", "second"]


@dataclass(frozen=True)
class Threshold:
    """Standard errors that a claim takes, over all pairs of its family."""

    different: float
    equivalent: float


def needed(found: Difference, margin: float, threshold: Threshold) -> dict[str, Any]:
    """Return the `seeds`, or the test `rows`, that would resolve it; `both` if neither would alone.

    In four of five repetitions, if difference and variances are as they were estimated. `of` says
    whose seeds: those of `both` methods, or of the `first` or `second` alone, where the other one's
    mean is known much better.
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
    """Seeds of one method, or of both, on these rows; None where the rest alone leaves it open.

    Also None where nothing is known about the seeds.
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
    """Test rows, with the seeds at hand; None where the seeds alone leave it open."""
    sides = (found.first, found.second)
    fixed = sum((side.spread - side.noise) / side.seeds for side in sides)
    of_a_row = (sum(side.noise / side.seeds for side in sides) + found.shared) * found.rows
    left = _largest_variance(found, margin, threshold) - fixed
    return _enough(of_a_row, left, found.rows + 1, MOST_ROWS)


def both_needed(found: Difference, margin: float, threshold: Threshold) -> tuple[int, int] | None:
    """(seeds, rows) that together would resolve it, where neither would alone.

    Of seeds doubled step by step, the first number with which some number of rows would do.
    """

    def more(side: Side) -> Side:
        return replace(side, seeds=seeds) if side.spread else side

    seeds = max(found.first.seeds, found.second.seeds, 2)
    while (seeds := 2 * seeds) <= MOST_SEEDS:
        expected = replace(found, first=more(found.first), second=more(found.second))
        rows = rows_needed(expected, margin, threshold)
        if rows is not None:
            return seeds, rows
    return None


def chance(found: Difference, margin: float, threshold: Threshold, seeds: int) -> float:
    """Probability that it is resolved with so many seeds of each method, given what is known now.

    The predictive probability of conditional power, with a flat prior: Spiegelhalter, Freedman and
    Blackburn 1986, Monitoring clinical trials: conditional or predictive power?, Controlled
    Clinical Trials 7. One-sided thresholds serve, which suffice to rule a method out as the best.
    """

    def more(side: Side) -> Side:
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
    """Variance of the difference up to which one of the claims has its power."""
    size, reserve = abs(found.difference), NormalDist().inv_cdf(POWER)
    different = size / (threshold.different + reserve)
    equivalent = max(margin - size, 0.0) / (threshold.equivalent + reserve)
    return max(different, equivalent) ** 2


def _enough(of_one: float, allowed: float, least: int, most: int) -> int | None:
    """The number, at least `least`, over which a variance `of_one` is at most `allowed`."""
    if of_one <= 0 or allowed <= of_one / most:
        return None
    return max(math.ceil(of_one / allowed), least)
