"""Variance between seeds, estimated for all methods of a study together.

Two or three scores contain little information about the variance of one method between seeds. But
the methods of a study are trained on the same data, so their variances are similar, and all scores
together contain much more. The model is that of limma's moderated t statistics: each method's
variance comes from a distribution whose location and width are estimated from the study.

The score of a run varies between seeds for two reasons. Single rows on which two seeds disagree
explain one part of the variance. This part is known well, because the disagreements are counted
over all test rows. The other part, changes that affect all rows in the same way, can be estimated
from the scores only. The model describes the ratio of the second part to the first. A method with
`d` degrees of freedom has the sample variance

    s² ~ noise (1 + ratio²) · chi²(d) / d
    log ratio ~ Normal(log level, width²), for one method in five Normal(1 + log level, 1)
    level ~ half-Cauchy(0.7 sqrt(rows / 1000)),  width ~ uniform on `WIDTHS`

Limma estimates location and width from thousands of genes and inserts the estimates. A study has
two to ten methods, too few for that, so they are integrated out on a grid here: the more the
methods' variances differ, the less they are pooled. The second normal distribution serves the
purpose of limma's robust variant: a method with a large variance between seeds keeps its own
variance and does not increase that of the others.

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
"""Grid of the ratio: standard deviation that seeds add, over the one that single rows explain."""
TYPICAL = 0.7
"""Scale of the half-Cauchy distribution of the level with 1,000 test rows: seeds change the score a
little less than single rows do. With more rows, single rows matter less, so the ratio grows."""
WIDTHS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
"""Grid of the standard deviation of the log ratios. At 1, one method in six has a ratio of at least
e times the median."""
OUTLIERS = 0.2
"""Proportion of methods that may vary much more between seeds than the others."""
OUTLIER_SHIFT, OUTLIER_WIDTH = 1.0, 1.0
"""Mean and standard deviation of the log ratio of such a method, relative to the level. With these
priors, simulated methods with equal standard deviations and with ones that differ by a factor of e
both have 95 % intervals with correct coverage and at most 5 to 6 % false claims."""


class SeedVariance:
    """Posterior distribution of the variance of each method's score between seeds.

    Methods with one run, whose variance is unknown, and methods whose runs all have the same
    predictions are not part of the common distribution.
    """

    def __init__(
        self, sample: Floats, seeds: Integers, noise: Floats | None = None, rows: int = 1000
    ) -> None:
        """Estimate the distribution.

        Args:
            sample: (m,) sample variances of the runs' scores.
            seeds: (m,) number of runs of each method.
            noise: (m,) variance that single rows explain; None if it is unknown, and the whole
                variance is moderated.
            rows: Number of test rows.
        """
        self.seeds = seeds
        self.varies = (seeds > 1) & ((sample if noise is None else noise) > 0)
        self._floor = 0.0 if noise is None else 1.0
        self._unit = noise if noise is not None else np.zeros(len(sample))
        if noise is None and self.varies.any():
            self._unit = np.full(len(sample), np.exp(np.log(sample[self.varies]).mean()))
        if not self.varies.any():
            return
        scaled = sample[self.varies] / self._unit[self.varies]
        given, levels = _prior()
        variance, before = self._floor + RATIOS**2, np.ones(len(levels))
        if noise is not None:
            relative = levels / (TYPICAL * math.sqrt(rows / 1000))
            # half-Cauchy density on a grid with equal steps of the logarithm
            before = relative / (1 + relative**2)
        freedom = (seeds[self.varies] - 1)[:, None]
        log_likelihood = -0.5 * freedom * (np.log(variance) + scaled[:, None] / variance)
        self._likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
        self._evidence = given @ self._likelihood.T + 1e-300  # (h, m)
        log_weight = np.log(before) + np.log(self._evidence).sum(1)
        weight = np.exp(log_weight - log_weight.max())
        self._weight = weight / weight.sum()

    def draw_added(self, size: int, random: np.random.Generator) -> Floats:
        """Draw the (size, m) variances that seeds add to the variance that single rows explain."""
        drawn = np.zeros((size, len(self.seeds)))
        if not self.varies.any():
            return drawn
        given, _ = _prior()
        chosen = random.choice(len(self._weight), size, p=self._weight)
        for place, of_method in zip(np.flatnonzero(self.varies), self._likelihood, strict=True):
            below = np.cumsum(given * of_method, 1)
            # a threshold below the total, so a grid point always exists
            threshold = random.random(size) * below[chosen, -1]
            ratios = RATIOS[(threshold[:, None] > below[chosen]).sum(1)]
            drawn[:, place] = self._unit[place] * ratios**2
        return drawn

    def half_widths(self) -> Floats:
        """Return half the width of the 95 % interval of each method's mean over other seeds.

        Returns:
            (m,) half-widths; 0 if the variance between seeds is 0 or unknown.
        """
        from scipy.optimize import brentq
        from scipy.special import ndtr

        found = np.zeros(len(self.seeds))
        if not self.varies.any():
            return found
        given, _ = _prior()
        deviations = np.sqrt(self._floor + RATIOS**2)
        for row, place in enumerate(np.flatnonzero(self.varies)):
            probability = (self._weight / self._evidence[:, row]) @ given * self._likelihood[row]

            def beyond(half: float, probability: Floats = probability) -> float:
                return float(probability @ ndtr(-half / deviations) / probability.sum() - 0.025)

            error = math.sqrt(self._unit[place] / self.seeds[place])
            found[place] = error * brentq(beyond, 0.0, 6 * deviations[-1])
        return found


@cache
def _prior() -> tuple[Floats, Floats]:
    """Return (h, r) probabilities of the `RATIOS` given level and width, and the (h,) levels."""
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
