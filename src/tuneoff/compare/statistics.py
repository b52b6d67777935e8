"""Does a difference between two methods count? Four answers, from runs on the same test rows.

A score differs for two reasons that have nothing to do with the method: other rows could have been
in the test, and another seed would have given another model. Seeds are drawn anew for each method,
rows are shared by all. That is the design of a reader study in radiology (readers nested in tests,
cases shared by all), and its variance components serve here: the rows' part from a paired
bootstrap, the seeds' part from the scores themselves, without counting twice what lies in both.
Few seeds leave their part uncertain, so each part has its own interval by Student's t, and the two
are added as their squares.

- Obuchowski and Rockette 1995, Hypothesis testing of diagnostic accuracy for multiple readers and
  multiple tests, Communications in Statistics - Simulation and Computation 24.
- Hillis 2014, A marginal-mean ANOVA approach for analyzing multireader multicase radiological
  imaging data, Statistics in Medicine 33: readers nested in tests.
- Howe 1974, Approximate confidence limits on the mean of X + Y where X and Y are two tabled
  independent random variables, Journal of the American Statistical Association 69.

A bootstrap over seeds and rows together draws from three or five seeds as if they were all there
are, and counts twice the rows on which seeds disagree; which error is larger depends on the study.
One Satterthwaite approximation over all three parts raises up to 12 % false alarms at two seeds,
when the seeds' part looks small by luck. `benchmarks/false_alarms.py` measures what is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from tuneoff.compare.panel import COUNTED, Floats, Panel

Answer = Literal["better", "worse", "equivalent", "not_resolved"]

LEVEL = 0.05
"""Share of studies without any difference in which one may be claimed, over all their pairs."""
POWER = 0.8
"""With which the seeds or rows that are said to do would do."""
MOST_SEEDS = 100
MOST_ROWS = 10_000_000
"""Nobody runs more: beyond these no number is named."""


@dataclass(frozen=True)
class Side:
    """One method's part in the variance of a difference of means over seeds."""

    seeds: int
    spread: float
    """Variance of one run's score over the seeds, on these rows; 0 where it cannot be known."""
    noise: float
    """The part of `spread` that more rows would remove: single rows on which seeds disagree."""

    @property
    def variance(self) -> float:
        """Of the mean over the seeds."""
        return self.spread / self.seeds


@dataclass(frozen=True)
class Difference:
    """The first method's mean score less the second's, and how surely it is known."""

    difference: float
    first: Side
    second: Side
    rows: int
    shared: float
    """Variance of the difference from the rows, which more seeds would not remove."""
    clusters: int | None = None
    """Groups that the rows come in, each independent of the others; None: as many as rows."""

    @property
    def between_seeds(self) -> float:
        """Variance of the difference from the seeds of either side."""
        return self.first.variance + self.second.variance

    @property
    def standard_error(self) -> float:
        """Of the difference: seeds and rows."""
        return math.sqrt(self.between_seeds + self.shared)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the seeds' part, Satterthwaite's; at least 1."""
        sides = (self.first, self.second)
        doubt = sum(side.variance**2 / max(side.seeds - 1, 1) for side in sides)
        return max(self.between_seeds**2 / doubt, 1.0) if doubt > 0 else 1.0

    def reach(self, tail: float) -> float:
        """The distance that the estimate exceeds by chance, on one side, with probability `tail`.

        At most 0.5. Half the width of a 95 % interval is `reach(0.025)`.
        """
        from scipy.special import stdtrit

        seeds = stdtrit(self.freedom, tail) ** 2 * self.between_seeds
        independent = self.rows if self.clusters is None else self.clusters
        rows = stdtrit(max(independent - 1, 1), tail) ** 2 * self.shared
        return math.sqrt(seeds + rows)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the difference, 95 %."""
        half = self.reach(0.025)
        return self.difference - half, self.difference + half

    @property
    def p_different(self) -> float:
        """Of a difference at least this large, on either side, if there were none."""
        if self.difference == 0:
            return 1.0
        return 2 * self._tail(abs(self.difference))

    def p_equivalent(self, margin: float) -> float:
        """Of one this small if the methods were `margin` or more apart: two one-sided tests.

        Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15.
        """
        gap = margin - abs(self.difference)
        return self._tail(gap) if gap > 0 else 1 - self._tail(-gap)

    def _tail(self, distance: float) -> float:
        """The `tail` for which `reach` is `distance`: at most 0.5, at least 1e-12."""
        from scipy.optimize import brentq

        if distance <= 0:
            return 0.5
        least = -12.0
        if self.reach(10**least) <= distance:
            return 10**least
        exponent = brentq(lambda x: self.reach(10**x) - distance, least, math.log10(0.5))
        return float(10**exponent)


def difference(panel: Panel, metric: str, points: Floats, draws: Floats, split: int) -> Difference:
    """The first `split` runs of `panel` against the others, by one metric.

    `points` (r,) are the runs' scores, `draws` (b, r) those of the paired bootstrap over rows.
    """
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    one, other = covariance[:split, :split], covariance[split:, split:]
    first, second = _side(points[:split], one), _side(points[split:], other)
    shared = _between(one) + _between(other) - 2 * float(covariance[:split, split:].mean())
    return Difference(
        difference=float(points[:split].mean() - points[split:].mean()),
        first=first,
        second=second,
        rows=len(panel.labels),
        shared=max(shared, 0.0) + _least_variance(panel, metric),
        clusters=None if panel.groups is None else panel.clusters,
    )


def _side(points: Floats, covariance: Floats) -> Side:
    """`covariance` (k, k) of the method's runs over draws of rows."""
    seeds = len(points)
    if seeds == 1:
        return Side(1, 0.0, 0.0)
    noise = max(float(np.diag(covariance).mean()) - _between(covariance), 0.0)
    # Runs that disagree on rows differ in their score at least as those rows make them: two or
    # three scores may agree by luck, the disagreements are counted over all rows.
    return Side(seeds, max(float(points.var(ddof=1)), noise), noise)


def _between(covariance: Floats) -> float:
    """Mean covariance of two runs of a method: what the rows do to all of its seeds alike."""
    seeds = len(covariance)
    if seeds == 1:  # of the one model at hand
        return float(covariance[0, 0])
    return float((covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1)))


def _least_variance(panel: Panel, metric: str) -> float:
    """As of two rows more on which the methods disagree, one for each.

    Without it, models that agree on 20 rows of 20 would be equal beyond doubt. Bonett and Price
    2012, Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data, Journal of Educational and Behavioral Statistics 37. A row of a rare label moves a
    macro average further than it moves the accuracy.
    """
    if metric not in COUNTED:
        return 0.0
    n = len(panel.labels)
    swing = 1.0
    if metric.startswith("macro"):
        counts = np.bincount(panel.labels, minlength=panel.label_count)
        counts = counts[counts > 0]
        swing = float((n / counts).sum()) / len(counts) ** 2
    # two groups more, where rows come in groups
    return 2 * max(swing, 1.0) / panel.clusters**2


# -- over all pairs ------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number.

    Rejecting those below 0.05 rejects a true hypothesis in at most 5 % of studies, however many
    there are. Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian
    Journal of Statistics 6.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - place) * p_values[index], 1.0))
        adjusted[index] = highest
    return adjusted


def answer(
    found: Difference, p_different: float, p_equivalent: float, *, higher_is_better: bool
) -> Answer:
    """The first method beside the second, from adjusted p values.

    A difference that is shown to be smaller than the margin is no difference that matters, even
    where it is shown not to be 0: that is `equivalent`.
    """
    if p_equivalent < LEVEL:
        return "equivalent"
    if p_different < LEVEL:
        return "better" if (found.difference > 0) == higher_is_better else "worse"
    return "not_resolved"


@dataclass(frozen=True)
class McNemar:
    """Rows that only one of two methods gets right, in a typical pair of their models."""

    only_first: float
    """Mean over all pairs of a run of the first and one of the second."""
    only_second: float
    p: float


def mcnemar(correct: npt.NDArray[np.bool_], split: int) -> McNemar:
    """McNemar's test on the rows, exact at any count; `correct` is (r, n), `split` runs come first.

    It speaks of the models at hand. With several seeds each pair of runs is tested, and p is twice
    the median of the pairs' values, which is valid however they depend on each other (Rüger 1978;
    DiCiccio, DiCiccio and Romano 2020, Exact tests via multiple data splitting, Statistics &
    Probability Letters 166). Row weights do not count. Dietterich 1998, Approximate statistical
    tests for comparing supervised classification learning algorithms, Neural Computation 10.
    """
    from scipy.stats import binom

    one, other = correct[:split].astype(np.int64), correct[split:].astype(np.int64)
    only_first, only_second = one @ (1 - other).T, (1 - one) @ other.T
    fewer = np.minimum(only_first, only_second)
    p = np.minimum(2 * binom.cdf(fewer, only_first + only_second, 0.5), 1.0)
    return McNemar(
        float(only_first.mean()),
        float(only_second.mean()),
        float(p.item() if p.size == 1 else min(2 * np.median(p), 1.0)),
    )


# -- what would resolve it -----------------------------------------------------------------------


def seeds_needed(found: Difference, margin: float, pairs: int) -> int | None:
    """Seeds per method on these rows with which a difference as found would be resolved.

    In four of five repetitions, if difference and variances are as they were estimated. None where
    no number would do (the rows alone leave it open), and where nothing is known about seeds.
    """
    if found.first.spread == found.second.spread == 0:
        return None

    def resolves(seeds: int) -> bool:
        return _resolves(_with_seeds(found, seeds), margin, pairs)

    return _least(resolves, max(found.first.seeds, found.second.seeds) + 1, MOST_SEEDS)


def _with_seeds(found: Difference, seeds: int) -> Difference:
    """What would be expected; a method that is the same with every seed stays as it is."""
    first, second = (
        replace(side, seeds=seeds) if side.spread else side for side in (found.first, found.second)
    )
    return replace(found, first=first, second=second)


def rows_needed(found: Difference, margin: float, pairs: int) -> int | None:
    """Test rows, with the seeds at hand, with which a difference as found would be resolved.

    As `seeds_needed`; None where the seeds alone leave it open.
    """

    def resolves(rows: int) -> bool:
        ratio = found.rows / rows

        def longer(side: Side) -> Side:
            noise = side.noise * ratio
            return Side(side.seeds, side.spread - side.noise + noise, noise)

        expected = Difference(
            found.difference,
            longer(found.first),
            longer(found.second),
            rows,
            found.shared * ratio,
            None if found.clusters is None else max(round(found.clusters / ratio), 2),
        )
        return _resolves(expected, margin, pairs)

    return _least(resolves, found.rows + 1, MOST_ROWS)


def both_needed(found: Difference, margin: float, pairs: int) -> tuple[int, int] | None:
    """(seeds, rows) that together would resolve it, where neither would alone.

    Of seeds doubled step by step, the first number with which some number of rows would do.
    """
    seeds = max(found.first.seeds, found.second.seeds, 2)
    while (seeds := 2 * seeds) <= MOST_SEEDS:
        rows = rows_needed(_with_seeds(found, seeds), margin, pairs)
        if rows is not None:
            return seeds, rows
    return None


def _resolves(expected: Difference, margin: float, pairs: int) -> bool:
    """Whether one of the claims has its power, at the level that Holm starts from."""
    size, level = abs(expected.difference), LEVEL / pairs
    reserve = expected.reach(1 - POWER)
    if size >= expected.reach(level / 2) + reserve:
        return True
    return margin - size >= expected.reach(level) + reserve


def _least(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number in [low, high] from which on `holds` is true."""
    above = low
    while above < high and not holds(above):
        low, above = above + 1, min(2 * above, high)
    if not holds(above):
        return None
    while low < above:
        middle = (low + above) // 2
        low, above = (low, middle) if holds(middle) else (middle + 1, above)
    return above
