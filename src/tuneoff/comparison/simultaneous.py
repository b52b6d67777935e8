"""Simultaneous inference: all pairs of a study's methods, and each method with the best.

All results are computed from the joint draws of the errors, see `statistics.MethodMeans`. If the
methods of a study were tested on different rows, there are no joint draws, and procedures that are
valid under any dependence are used instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tuneoff.comparison.resolution import Threshold
from tuneoff.comparison.statistics import LEVEL, SMALLEST, Difference, share_of
from tuneoff.results.metrics import Floats

SHARE = 0.9
"""Fraction of `LEVEL` that each of two families gets: all pairs, and the comparison with the best.
Errors in the two families mostly occur together, so with 4.5 % each, the probability of a false
claim in either is at most 5 % (`benchmarks/false_alarms.py`)."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust P values for multiple testing by Holm's procedure.

    Rejecting adjusted values below 0.05 rejects a true hypothesis in at most 5 % of studies, under
    any dependence. Holm 1979, A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - place) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted


def step_down(statistics: Floats, errors: Floats) -> list[float]:
    """Adjust P values by the joint distribution of the statistics.

    The largest statistic is compared with the maximum of all errors, the next one with the maximum
    of the errors of the remaining ones, and so on. Pairs that share a method or test rows are
    correlated, so this rejects more than Holm's procedure at the same error rate. Romano and Wolf
    2005, Exact and approximate stepdown methods for multiple hypothesis testing, Journal of the
    American Statistical Association 100.

    Args:
        statistics: (p,) test statistics; larger values are stronger evidence against a hypothesis.
        errors: (draws, p) draws of the statistics under the hypotheses.

    Returns:
        (p,) adjusted P values.
    """
    order = np.argsort(-statistics, kind="stable")
    largest, p_values = np.full(len(errors), -np.inf), np.empty(len(order))
    for index in order[::-1]:
        largest = np.maximum(largest, errors[:, index])
        p_values[index] = share_of(largest >= statistics[index])
    p_values[order] = np.maximum.accumulate(p_values[order])
    return [float(p) for p in p_values]


def adjusted_different(found: Sequence[Difference], *, joint: bool) -> list[float]:
    """Adjust the P values of the hypothesis "no difference" for all pairs of a family.

    Each difference is divided by the half-width of its own 95 % interval, so no pair is favoured.
    If the errors of the pairs do not come from `joint` draws, Holm's procedure is used.
    """
    if not joint:
        return _shared(holm([f.p_different for f in found]))
    sizes = np.array([abs(f.difference) / f.half_width for f in found])
    errors = np.stack([np.abs(f.errors) / f.half_width for f in found], 1)
    return _shared(step_down(sizes, errors))


def adjusted_equivalent(found: Sequence[Difference], margin: float, *, joint: bool) -> list[float]:
    """Adjust the P values of the hypothesis "`margin` or more apart" for all pairs of a family."""
    if not joint:
        return _shared(holm([f.p_equivalent(margin) for f in found]))
    room = np.array([(margin - abs(f.difference)) / f.half_width for f in found])
    errors = np.stack([f.shortfall / f.half_width for f in found], 1)
    return _shared(step_down(room, errors))


def _shared(p_values: Sequence[float]) -> list[float]:
    """Scale P values so that comparing them with `LEVEL` uses this family's part of the level."""
    return [min(p / SHARE, 1.0) for p in p_values]


def thresholds(found: Sequence[Difference], *, joint: bool) -> Threshold:
    """Return the number of standard errors that a claim about one of several differences needs."""
    if joint:
        units = [max(f.standard_error, SMALLEST) for f in found]
        sizes = np.max([np.abs(f.errors) / u for f, u in zip(found, units, strict=True)], 0)
        shortfalls = np.max([f.shortfall / u for f, u in zip(found, units, strict=True)], 0)
        one, two = (float(np.quantile(x, 1 - SHARE * LEVEL)) for x in (shortfalls, sizes))
        return Threshold(different=two, equivalent=one)
    tail = SHARE * LEVEL / max(len(found), 1)
    return Threshold(
        different=NormalDist().inv_cdf(1 - tail / 2), equivalent=NormalDist().inv_cdf(1 - tail)
    )


@dataclass(frozen=True)
class Bounds:
    """Bounds of a method's distance from the best of the others, jointly with 95 % confidence."""

    behind: float
    """Upper bound of how much worse the method is than the best of the others; 0 or more."""
    ahead: float
    """Upper bound of how much better it is; 0 if it is ruled out as the only best method."""

    @property
    def ruled_out(self) -> bool:
        """Whether another method is at least as good."""
        return self.ahead == 0


def with_best(
    found: Mapping[tuple[str, str], Difference],
    names: Sequence[str],
    *,
    higher_is_better: bool,
    joint: bool,
) -> dict[str, Bounds]:
    """Compare each of `names` with the best of the others.

    Multiple comparisons with the best answer fewer questions than all pairwise comparisons and are
    therefore more powerful: for each method, whether it can be the best, and how far it can be
    below the best at most, whichever method that is. All bounds hold jointly with 95 % confidence.
    Hsu 1984, Constrained simultaneous confidence intervals for multiple comparisons with the best,
    Annals of Statistics 12; with unequal variances as in Edwards and Hsu 1983, Multiple comparisons
    with the best treatment, Journal of the American Statistical Association 78.

    Args:
        found: The difference of each pair of names, in either order.
        names: The candidates, each compared with at least one other.
        higher_is_better: Whether higher values of the metric are better.
        joint: Whether the errors of all pairs come from the same draws.

    Returns:
        The bounds of each name.
    """
    sign = 1.0 if higher_is_better else -1.0

    turned = {(i, j): (sign, pair) for (i, j), pair in found.items()}
    turned |= {(j, i): (-sign, pair) for (i, j), pair in found.items()}

    def leads_over(i: str) -> dict[str, float]:
        others = {j: turned[j, i] for j in names if (j, i) in turned}
        pairs = {j: (t * p.difference, t * p.errors, p.half_width) for j, (t, p) in others.items()}
        return _leads(pairs, joint=joint)

    if len(names) < 2:
        return dict.fromkeys(names, Bounds(0.0, 0.0))
    # lead[i][j]: lower bound of how much better j is than i, jointly for all j
    lead = {i: leads_over(i) for i in names}
    worst = {i: max(of.values()) for i, of in lead.items()}
    least = min(worst.values())
    possible = [i for i in names if worst[i] <= 0 or worst[i] == least]
    return {
        i: Bounds(
            behind=max([0.0, *(-lead[j][i] for j in possible if i in lead[j])]),
            ahead=max(-worst[i], 0.0),
        )
        for i in names
    }


def _leads(pairs: Mapping[str, tuple[float, Floats, float]], *, joint: bool) -> dict[str, float]:
    """Return joint lower bounds of the differences from one control (Dunnett)."""
    if not joint:
        tail = 1 - SHARE * LEVEL / len(pairs)
        return {
            j: size - float(np.quantile(errors, tail)) for j, (size, errors, _) in pairs.items()
        }
    largest = np.max([errors / half for _, errors, half in pairs.values()], 0)
    factor = float(np.quantile(largest, 1 - SHARE * LEVEL))
    return {j: size - factor * half for j, (size, _, half) in pairs.items()}
