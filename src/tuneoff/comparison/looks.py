"""Wider intervals for studies with several interim analyses ("looks").

A study that adds seeds until its question is answered analyses its result after each seed, and each
look is another chance of a false claim. Repeated confidence intervals are valid at all planned
looks together, so they are valid whenever and for whatever reason the study stops: Jennison and
Turnbull 1989, Interim analyses: the repeated confidence interval approach, Journal of the Royal
Statistical Society B 51. All are wider than an interval for a single look by the same factor (like
the bounds of Pocock 1977, Group sequential methods in the design and analysis of clinical trials,
Biometrika 64). The factor depends on the correlation of the looks. All looks share the test rows,
and each contains the seeds of the earlier ones, so the factor is smaller than for independent
looks.

A method that is ruled out gets no further seeds, but is still compared with those that do. The
factor assumes that both methods have the same number of seeds, as they had when one was ruled out.
`benchmarks/adaptive_seeds.py` measures that the error rate is kept nevertheless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tuneoff.comparison.statistics import MethodVariance
    from tuneoff.results.metrics import Floats

DRAWS = 4000
"""Number of random draws; the factor then varies by about 1 %."""
MOST_LOOKS = 8
"""Maximum number of looks in the computation. Of more looks, a geometrically spaced subset is used,
because neighbouring looks share most seeds."""


@dataclass(frozen=True)
class Looks:
    """Numbers of seeds at which a study may look at its result."""

    first: int
    last: int

    @property
    def seeds(self) -> list[int]:
        """The numbers of seeds, at most `MOST_LOOKS` of them."""
        if self.last - self.first < MOST_LOOKS:
            return list(range(self.first, self.last + 1))
        spread = np.geomspace(self.first, self.last, MOST_LOOKS)
        return sorted({round(float(seeds)) for seeds in spread})


def widening(
    looks: Looks, sides: Sequence[MethodVariance], rows: Floats, digest: Sequence[int], level: float
) -> float:
    """Return the factor by which the intervals of all pairs must be widened to hold at all looks.

    Args:
        looks: The planned looks.
        sides: For each of the m methods, the variance of one run over the seeds.
        rows: (m, m) covariance of the methods' means due to the test rows.
        digest: Seed of the random numbers, which depends on the test set only.
        level: Probability of a false claim in one look, over all pairs.

    Returns:
        A factor of at least 1.
    """
    counts = np.array(looks.seeds)
    if len(sides) < 2 or len(counts) < 2:
        return 1.0
    random = np.random.default_rng([*digest, len(counts)])
    spread = np.array([side.spread for side in sides])
    values, vectors = np.linalg.eigh((rows + rows.T) / 2)
    shared = (random.standard_normal((DRAWS, len(sides))) * np.sqrt(np.maximum(values, 0))) @ (
        vectors.T
    )
    added = np.diff(counts, prepend=0)  # seeds since the previous look
    own = random.standard_normal((DRAWS, len(counts), len(sides)))
    own *= np.sqrt(added[:, None] * spread)
    seeds = np.cumsum(own, 1) / counts[:, None]
    means = shared[:, None] + seeds
    once, anytime = np.zeros(DRAWS), np.zeros(DRAWS)
    for i, j in combinations(range(len(sides)), 2):
        of_rows = rows[i, i] + rows[j, j] - 2 * rows[i, j]
        variance = (spread[i] + spread[j]) / counts + max(float(of_rows), 0.0)
        if not variance.min() > 0:
            continue
        sizes = np.abs(means[:, :, i] - means[:, :, j]) / np.sqrt(variance)
        np.maximum(once, sizes[:, -1], out=once)
        np.maximum(anytime, sizes.max(1), out=anytime)
    single = float(np.quantile(once, 1 - level))
    return max(float(np.quantile(anytime, 1 - level)) / single, 1.0) if single else 1.0
