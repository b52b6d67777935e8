"""Variance between seeds, estimated for all methods of a study together.

Two or three scores say little about the variance of one method over its seeds. But the methods of a
study are trained on the same data, so their variances are similar, and together their scores say
much more. The model is the one of limma's moderated t statistics: each method's variance comes from
a distribution whose location and width the study itself determines.

A run's score varies for two reasons. Single rows on which two seeds disagree explain a part of the
variance, and that part is known well, because the disagreements are counted over all test rows.
What a seed changes in all rows alike is known from the scores only. The model is about the latter,
as its ratio to the former. A method with `d` degrees of freedom has the sample variance

    s² ~ noise (1 + ratio²) · chi²(d) / d
    log ratio ~ Normal(log level, width²), for one method in five Normal(1 + log level, 1)
    level ~ half-Cauchy(0.7 sqrt(rows / 1000)),  width ~ uniform on `WIDTHS`

Limma estimates location and width from thousands of genes and inserts the estimates. A study has
two to ten methods, which do not determine them, so they are integrated out on a grid here: where
the methods' variances differ, or might, less is borrowed. The second normal distribution does what
limma's robust form does: a method whose seeds lie far apart keeps its own variance and does not
raise the others'.

References:
    Smyth 2004, Linear models and empirical Bayes methods for assessing differential expression in
    microarray experiments, Statistical Applications in Genetics and Molecular Biology 3.
    Phipson, Lee, Majewski, Alexander and Smyth 2016, Robust hyperparameter estimation protects
    against hypervariable genes and improves power to detect differential expression, Annals of
    Applied Statistics 10.
    Gelman 2006, Prior distributions for variance parameters in hierarchical models, Bayesian
    Analysis 1: the half-Cauchy distribution.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RATIOS = np.geomspace(0.03, 60, 48)
"""Grid of the standard deviation that seeds add, over the one that single rows explain."""
TYPICAL = 0.7
"""Scale of the half-Cauchy distribution of the level with 1,000 test rows: seeds move the score a
little less than single rows do. With more rows single rows matter less, so the ratio grows."""
WIDTHS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
"""Grid of the standard deviation of the log ratios. At 1 one method in six has a ratio of e times
the median or more."""
OUTLIERS = 0.2
"""Share of methods whose seeds may lie much further apart than the others'."""
OUTLIER_SHIFT, OUTLIER_WIDTH = 1.0, 1.0
"""Mean and standard deviation of the log ratio of such a method, over the level. The priors are set
so that in the simulation both methods that are alike and methods whose standard deviations differ
by a factor of e have 95 % intervals and at most 5 to 6 % false claims."""


def added_variance(
    sample: Floats,
    noise: Floats,
    seeds: Integers,
    rows: int,
    size: int,
    random: np.random.Generator,
) -> Floats:
    """Draw, for each method, the variance that its seeds add to what single rows explain.

    Args:
        sample: (m,) sample variances of the runs' scores.
        noise: (m,) the part that single rows explain.
        seeds: (m,) runs of each method.
        rows: Number of test rows.
        size: Number of draws.
        random: Source of the draws.

    Returns:
        (size, m) draws from the joint posterior distribution. They are 0 for a method with one run,
        about whose seeds nothing is known, and for one whose runs all give the same answers.
    """
    drawn = np.zeros((size, len(sample)))
    varies = (seeds > 1) & (noise > 0)
    if varies.any():
        scaled = sample[varies] / noise[varies]
        typical = TYPICAL * math.sqrt(rows / 1000)
        ratios = _posterior(scaled, seeds[varies] - 1, size, random, typical)
        drawn[:, varies] = ratios * noise[varies]
    return drawn


def moderated_half_widths(sample: Floats, seeds: Integers, size: int = 4000) -> Floats:
    """Return half of the 95 % interval of each method's mean score, from the scores alone.

    As `added_variance`, where nothing is known about single rows: the whole variance is moderated.

    Args:
        sample: (m,) sample variances of the runs' scores.
        seeds: (m,) runs of each method, 2 or more.
        size: Number of draws.

    Returns:
        (m,) half-widths; 0 for a method whose scores are all equal.
    """
    random = np.random.default_rng(0)
    half_widths = np.zeros(len(sample))
    varies = sample > 0
    if varies.any():
        unit = float(np.exp(np.log(sample[varies]).mean()))
        ratios = _posterior(sample[varies] / unit, seeds[varies] - 1, size, random, None)
        errors = np.sqrt(unit * ratios / seeds[varies]) * random.standard_normal(ratios.shape)
        half_widths[varies] = np.quantile(np.abs(errors), 0.95, axis=0)
    return half_widths


def _posterior(
    scaled: Floats,
    freedom: Integers,
    size: int,
    random: np.random.Generator,
    typical: float | None,
) -> Floats:
    """Draw (size, m) values of `ratio²`, where `scaled` estimates `1 + ratio²`.

    Without a `typical` level, it estimates `ratio²` alone, and all levels are as likely.
    """
    given, levels = _prior()
    if typical is None:
        variance, before = RATIOS**2, np.ones(len(levels))
    else:
        relative = levels / typical
        # the half-Cauchy density on a grid whose places are equally far apart as logarithms
        variance, before = 1 + RATIOS**2, relative / (1 + relative**2)
    log_likelihood = -0.5 * freedom[:, None] * (np.log(variance) + scaled[:, None] / variance)
    likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    log_weight = np.log(before) + np.log(given @ likelihood.T + 1e-300).sum(1)
    weight = np.exp(log_weight - log_weight.max())
    chosen = random.choice(len(weight), size, p=weight / weight.sum())
    squares = RATIOS**2
    drawn = np.empty((size, len(scaled)))
    for place, of_method in enumerate(likelihood):
        below = np.cumsum(given * of_method, 1)
        # a threshold within the total, so that a place of the grid is always found
        threshold = random.random(size) * below[chosen, -1]
        drawn[:, place] = squares[(threshold[:, None] > below[chosen]).sum(1)]
    return drawn


@cache
def _prior() -> tuple[Floats, Floats]:
    """(h, r) probabilities of the `RATIOS` given each pair of a level and a width; (h,) levels."""
    places = np.log(RATIOS)
    levels, widths = (x.ravel() for x in np.meshgrid(RATIOS[::2], WIDTHS, indexing="ij"))

    def normal(width: Floats, shift: float) -> Floats:
        distance = places - np.minimum(np.log(levels)[:, None] + shift, places[-1])
        density: Floats = np.exp(-0.5 * (distance / width) ** 2)
        density /= density.sum(1, keepdims=True)
        return density

    usual = normal(widths[:, None], 0.0)
    far = normal(np.full((len(levels), 1), OUTLIER_WIDTH), OUTLIER_SHIFT)
    return (1 - OUTLIERS) * usual + OUTLIERS * far, levels
