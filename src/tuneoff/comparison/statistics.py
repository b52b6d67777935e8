"""Estimates and tests of the difference between two methods.

A score is random for two reasons that do not depend on the method: the test set could contain other
rows, and another seed would give another model. Each method has its own seeds, but all methods
share the test rows. This is the design of a reader study in radiology (readers nested in tests, all
tests on the same cases), whose variance components are used here: the rows' part is estimated by a
paired bootstrap, the seeds' part from the scores of all methods together (`seed_variance`).

Both parts are drawn jointly for all methods (`method_means`): one draw is a possible set of errors
of all mean scores. All intervals, tests and simultaneous bounds of the verdict are computed from
these draws, which preserves the correlation between pairs that share a method or test rows.

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

import numpy as np
import numpy.typing as npt

from tuneoff.comparison.bootstrap import PairedPredictions
from tuneoff.comparison.looks import Looks, widening
from tuneoff.comparison.seed_variance import SeedVariance
from tuneoff.results.metrics import QUALITY_METRICS, Floats
from tuneoff.results.summary import Answer

LEVEL = 0.05
"""Probability of at least one false claim over all pairs of a study without any difference."""
Z = 1.959963984540054
"""Half-width of a 95 % interval in standard errors."""
REPEATS = 5
"""Number of times that each bootstrap draw is used, each time with new draws of the seeds' part."""
MOST_CELLS = 20_000_000
"""Maximum of draws times pairs in memory: 160 MB."""
SMALLEST = 1e-12
"""Minimum half-width, for methods that agree on all rows and have no error in their difference."""


@dataclass(frozen=True)
class MethodVariance:
    """Contribution of one method to the variance of a difference of means over seeds."""

    seeds: int
    """Number of seeds."""
    spread: float
    """Variance of a run's score between seeds, on these rows; 0 if it is unknown."""
    noise: float
    """Part of `spread` that more rows would remove: single rows on which seeds disagree."""

    @property
    def variance(self) -> float:
        """Variance of the mean over the seeds."""
        return self.spread / self.seeds


@dataclass(frozen=True, eq=False)
class Difference:
    """Difference of two methods' mean scores, first minus second, with its uncertainty."""

    difference: float
    """Estimated difference."""
    errors: Floats
    """(draws,) random draws of the error of `difference`."""
    first: MethodVariance
    second: MethodVariance
    rows: int
    """Number of test rows."""
    shared: float
    """Variance of the difference due to the test rows, which more seeds would not reduce."""

    @property
    def between_seeds(self) -> float:
        """Variance of the difference due to the seeds of both methods."""
        return self.first.variance + self.second.variance

    @property
    def standard_error(self) -> float:
        """Standard error of the difference due to seeds and rows."""
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
        """Two-sided P value of the hypothesis that there is no difference."""
        if self.difference == 0:
            return 1.0
        return share_of(np.abs(self.errors) >= abs(self.difference))

    def p_equivalent(self, margin: float) -> float:
        """Return the P value of the hypothesis that the methods are `margin` or more apart.

        Two one-sided tests: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15.
        """
        return share_of(self.shortfall >= margin - abs(self.difference))

    @property
    def shortfall(self) -> Floats:
        """(draws,) draws of how much the absolute difference underestimates the true one."""
        return self.errors if self.difference < 0 else -self.errors


def share_of(happened: npt.NDArray[np.bool_]) -> float:
    """Return the proportion of draws in which an event happened, never 0.

    Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.2.
    """
    return float((1 + np.count_nonzero(happened)) / (1 + len(happened)))


@dataclass(frozen=True, eq=False)
class MethodMeans:
    """Mean scores of `m` methods over their seeds, by one metric, and draws of their errors."""

    means: Floats
    """(m,) mean scores."""
    errors: Floats
    """(draws, m) random draws of the errors of the means, jointly on the same test rows."""
    sides: Sequence[MethodVariance]
    """Variance between seeds of each method."""
    sample: Floats
    """(m,) sample variances of the runs' scores, before moderation; 0 with one run."""
    half_widths: Floats
    """(m,) half the width of the 95 % interval of each mean over other seeds on these rows; 0 if
    the variance between seeds is unknown."""
    between: Floats
    """(m, m) covariance due to the rows of two runs' scores, of two methods or of two seeds."""
    least: float
    """Variance that is added to each mean, see `_least_variance`."""
    rows: int
    """Number of test rows."""

    def difference(self, i: int, j: int) -> Difference:
        """Return the difference of method `i` minus method `j`."""
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
    panel: PairedPredictions,
    metric: str,
    points: Floats,
    draws: Floats,
    columns: Sequence[Sequence[int]],
    looks: Looks | None = None,
) -> MethodMeans:
    """Estimate the methods' mean scores and draw their errors.

    An error has two parts. The first is the change of the mean over a method's runs under the
    bootstrap's row weights, which includes the effect of rows on all seeds and on single seeds. It
    is scaled to a multivariate t distribution; its degrees of freedom are the number of rows, or
    groups of rows, minus one. The second part is the effect of another seed on all rows: a normal
    variable whose variance comes from `SeedVariance`, divided by the number of seeds.

    Args:
        panel: The runs' predictions.
        metric: Key of the metric.
        points: (r,) scores of the runs.
        draws: (b, r) scores of the runs in the paired bootstrap over rows.
        columns: Indices of the runs of each method.
        looks: Interim analyses of the study; the errors are then widened so that intervals are
            valid at all of them.
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
        MethodVariance(int(k), float(max((half / Z) ** 2 * k, own)), float(own))
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
    """Return the variance components of the methods' scores.

    These are the (m,) sample variances, the (m,) variances that single rows explain, and the (m, m)
    covariances of two runs due to the rows.
    """
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
            # rounding leaves about 1e-20 if all runs have the same predictions
            excess = float(np.diag(own).mean()) - between[i, i]
            noise[i] = excess if excess > 1e-9 * max(own[0, 0], 1e-12) else 0.0
    return sample, noise, between


def _least_variance(panel: PairedPredictions, metric: str) -> float:
    """Return the variance of each method due to two additional rows on which two methods disagree.

    Without it, models that agree on 20 of 20 rows would be equal with certainty. Bonett and Price
    2012, Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data, Journal of Educational and Behavioral Statistics 37. A row of a rare label changes
    a macro average more than the accuracy. With groups of rows, two groups are added instead.
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
    """Return whether the first method is better than the second, from adjusted P values.

    A difference that is shown to be smaller than the margin is irrelevant in practice, even if it
    is shown not to be 0; the answer is then `equivalent`.
    """
    if p_equivalent < LEVEL:
        return "equivalent"
    if p_different < LEVEL:
        return "better" if (found.difference > 0) == higher_is_better else "worse"
    return "not_resolved"
