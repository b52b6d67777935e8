"""Does a difference between two methods count? Estimates, tests, and what would resolve it.

A score differs for two reasons that have nothing to do with the method: other rows could have been
in the test set, and another seed would have given another model. Seeds are drawn anew for each
method, rows are shared by all. That is the design of a reader study in radiology (readers nested in
tests, cases shared by all), and its variance components serve here: the rows' part comes from a
paired bootstrap, the seeds' part from the scores of all methods together (`seed_variance`).

Both parts are drawn jointly for all methods (`method_means`): one draw is what the errors of all
mean scores could have been. Every interval, test and simultaneous bound of the verdict is read off
these draws, so that the correlation between pairs that share a method or test rows is kept.

References:
    Obuchowski and Rockette 1995, Hypothesis testing of diagnostic accuracy for multiple readers and
    multiple tests, Communications in Statistics - Simulation and Computation 24.
    Hillis 2014, A marginal-mean ANOVA approach for analyzing multireader multicase radiological
    imaging data, Statistics in Medicine 33: readers nested in tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from tuneoff.comparison.bootstrap import Panel
from tuneoff.comparison.looks import Looks, widening
from tuneoff.comparison.seed_variance import SeedVariance
from tuneoff.results.metrics import QUALITY_METRICS, Floats

Answer = Literal["better", "worse", "equivalent", "not_resolved"]

LEVEL = 0.05
"""Share of studies without any difference in which one may be claimed, over all their pairs."""
Z = 1.959963984540054
"""Standard errors in half a 95 % interval."""
REPEATS = 5
"""Times that each bootstrap draw is used, each time with other seeds."""
MOST_CELLS = 20_000_000
"""Draws times pairs that are held at a time: 160 MB."""
SMALLEST = 1e-12
"""Least half-width: methods that agree on all rows have no error in their difference."""


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
        """Variance of the mean over the seeds."""
        return self.spread / self.seeds


@dataclass(frozen=True, eq=False)
class Difference:
    """The first method's mean score minus the second's, and how far it may be off."""

    difference: float
    errors: Floats
    """(draws,) what the error of `difference` could have been."""
    first: Side
    second: Side
    rows: int
    shared: float
    """Variance of the difference from the rows, which more seeds would not remove."""

    @property
    def between_seeds(self) -> float:
        """Variance of the difference from the seeds of both methods."""
        return self.first.variance + self.second.variance

    @property
    def standard_error(self) -> float:
        """Standard error of the difference: seeds and rows."""
        return math.sqrt(self.between_seeds + self.shared)

    @cached_property
    def half_width(self) -> float:
        """Half the width of the 95 % interval of this difference alone."""
        return max(float(np.quantile(np.abs(self.errors), 1 - LEVEL)), SMALLEST)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of this difference alone."""
        return self.difference - self.half_width, self.difference + self.half_width

    @property
    def p_different(self) -> float:
        """P value of the hypothesis that there is no difference, two-sided."""
        if self.difference == 0:
            return 1.0
        return share_of(np.abs(self.errors) >= abs(self.difference))

    def p_equivalent(self, margin: float) -> float:
        """P value of the hypothesis that the methods are `margin` or more apart.

        Two one-sided tests: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15.
        """
        return share_of(self.shortfall >= margin - abs(self.difference))

    @property
    def shortfall(self) -> Floats:
        """(draws,) how much smaller than the truth the absolute difference may have come out."""
        return self.errors if self.difference < 0 else -self.errors


def share_of(happened: npt.NDArray[np.bool_]) -> float:
    """Return the share of draws in which something happened, never 0.

    Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.2.
    """
    return float((1 + np.count_nonzero(happened)) / (1 + len(happened)))


@dataclass(frozen=True, eq=False)
class MethodMeans:
    """The mean scores of `m` methods over their seeds, by one metric, and their errors."""

    means: Floats
    """(m,)"""
    errors: Floats
    """(draws, m) what the errors of the means could have been, all from the same test rows."""
    sides: Sequence[Side]
    sample: Floats
    """(m,) sample variances of the runs' scores, before they are moderated; 0 with one run."""
    half_widths: Floats
    """(m,) half of the 95 % interval of each mean over other seeds on these rows; 0 where the
    seeds cannot be known."""
    between: Floats
    """(m, m) covariance of two runs' scores from the rows: of two methods, or of two seeds."""
    least: float
    """Variance that is added to each mean, see `_least_variance`."""
    rows: int

    def difference(self, i: int, j: int) -> Difference:
        """Method `i` minus method `j`."""
        shared = self.between[i, i] + self.between[j, j] - 2 * self.between[i, j]
        return Difference(
            difference=float(self.means[i] - self.means[j]),
            errors=self.errors[:, i] - self.errors[:, j],
            first=self.sides[i],
            second=self.sides[j],
            rows=self.rows,
            shared=max(float(shared), 0.0) + 2 * self.least,
        )


def method_means(
    panel: Panel,
    metric: str,
    points: Floats,
    draws: Floats,
    columns: Sequence[Sequence[int]],
    looks: Looks | None = None,
) -> MethodMeans:
    """Estimate the methods' mean scores and draw their errors.

    An error has two parts. The bootstrap's row weights change the mean over a method's runs; that
    holds what the rows do to all seeds alike and what single rows do to each seed. It is scaled by
    a multivariate t distribution with one degree of freedom less than there are rows, or groups of
    rows. The second part is what another seed would change in all rows alike: a normal variable
    with a variance from `SeedVariance`, over the number of seeds.

    Args:
        panel: The runs' answers.
        metric: Key of the metric.
        points: (r,) the runs' scores.
        draws: (b, r) their scores in the paired bootstrap over rows.
        columns: The runs of each method.
        looks: Those of a study that may look at its result several times; the errors are then wide
            enough for all of them.
    """
    pairs = len(columns) * (len(columns) - 1) // 2
    repeats = max(1, min(REPEATS, MOST_CELLS // (len(draws) * max(pairs, 1))))
    size = repeats * len(draws)
    random = np.random.default_rng([*panel.digest, *metric.encode()])
    sample, noise, between = _components(points, draws, columns)
    seeds = np.array([len(runs) for runs in columns])
    variance = SeedVariance(sample, seeds, noise, len(panel.labels))
    added = variance.draw_added(size, random)
    least = _least_variance(panel, metric)

    rows_part = np.stack([draws[:, list(runs)].mean(1) for runs in columns], 1)
    rows_part -= rows_part.mean(0)
    freedom = max(panel.clusters - 1, 1)
    errors = np.tile(rows_part, (repeats, 1))
    errors += math.sqrt(least) * random.standard_normal(errors.shape)
    errors *= np.sqrt(freedom / random.chisquare(freedom, size))[:, None]
    errors += np.sqrt(added / seeds) * random.standard_normal(errors.shape)

    half_widths = variance.half_widths()
    sides = [
        Side(int(k), float(max((half / Z) ** 2 * k, own)), float(own))
        for k, half, own in zip(seeds, half_widths, noise, strict=True)
    ]
    if looks is not None:
        rows = between + least * np.eye(len(columns))
        errors *= widening(looks, sides, rows, [*panel.digest, *metric.encode()], LEVEL)
    return MethodMeans(
        means=np.array([points[list(runs)].mean() for runs in columns]),
        errors=errors,
        sides=sides,
        sample=sample,
        half_widths=half_widths,
        between=between,
        least=least,
        rows=len(panel.labels),
    )


def _components(
    points: Floats, draws: Floats, columns: Sequence[Sequence[int]]
) -> tuple[Floats, Floats, Floats]:
    """(m,) sample variances, (m,) the part that single rows explain, (m, m) covariances of runs."""
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    m = len(columns)
    sample, noise, between = np.zeros(m), np.zeros(m), np.empty((m, m))
    for i, runs in enumerate(columns):
        k, own = len(runs), covariance[np.ix_(runs, runs)]
        for j, others in enumerate(columns):
            between[i, j] = covariance[np.ix_(runs, others)].mean()
        if k > 1:
            between[i, i] = (own.sum() - np.trace(own)) / (k * (k - 1))
            sample[i] = points[list(runs)].var(ddof=1)
            # rounding leaves about 1e-20 where all runs give the same answers
            excess = float(np.diag(own).mean()) - between[i, i]
            noise[i] = excess if excess > 1e-9 * max(own[0, 0], 1e-12) else 0.0
    return sample, noise, between


def _least_variance(panel: Panel, metric: str) -> float:
    """Return the variance that two more rows on which two methods disagree give each of them.

    Without it, models that agree on 20 rows of 20 would be equal beyond doubt. Bonett and Price
    2012, Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data, Journal of Educational and Behavioral Statistics 37. A row of a rare label moves a
    macro average further than it moves the accuracy. Where rows come in groups it is two groups.
    """
    if QUALITY_METRICS[metric].of_counts is None:
        return 0.0
    n = len(panel.labels)
    swing = 1.0
    if metric.startswith("macro"):
        counts = np.bincount(panel.labels, minlength=panel.label_count)
        counts = counts[counts > 0]
        swing = float((n / counts).sum()) / len(counts) ** 2
    return max(swing, 1.0) / panel.clusters**2


def answer(
    found: Difference, p_different: float, p_equivalent: float, *, higher_is_better: bool
) -> Answer:
    """Return the first method's standing to the second, from adjusted P values.

    A difference that is shown to be smaller than the margin is no difference that matters, even
    where it is shown not to be 0: that is `equivalent`.
    """
    if p_equivalent < LEVEL:
        return "equivalent"
    if p_different < LEVEL:
        return "better" if (found.difference > 0) == higher_is_better else "worse"
    return "not_resolved"
