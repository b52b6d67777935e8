"""Slices: parts of the test rows with a higher or lower error rate than the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tuneoff import formatting as fmt
from tuneoff.error_analysis.certainty import (
    SURE,
    adjusted,
    design_effects,
    differs_from_rest,
    wilson,
)
from tuneoff.error_analysis.evidence import Bools, ErrorEvidence, Floats
from tuneoff.error_analysis.words import words_of

BINS = 5
"""Number of quantile bins of a numeric property."""
LEAST_ROWS = 20
"""Minimum number of test rows of a group for its analysis."""
MOST_GROUPS = 200
"""Maximum number of analysed groups."""
RARE = 5
"""A word is rare if it occurs in fewer training rows than this."""


@dataclass(frozen=True)
class Slice:
    """Error rate of one method on a part of the test rows."""

    kind: str
    """`length`, `label`, `rare words` or `group`."""
    name: str
    """Description of the rows."""
    rows: int
    """Number of rows."""
    errors: int
    """Number of errors."""
    rate: float
    """Error rate: errors / rows."""
    low: float
    """Lower end of the 95 % interval of the rate (Wilson)."""
    high: float
    """Upper end of the interval."""
    rest: float
    """Error rate of all other rows."""
    q: float
    """False discovery rate over all slices of all methods."""

    @property
    def significant(self) -> bool:
        """Whether the difference from the other rows is significant."""
        return self.q <= SURE


@dataclass(frozen=True)
class Slices:
    """Error rates of slices."""

    methods: dict[str, list[Slice]]
    """Slices of each method, most significant first; with equal P values, higher rates first."""
    tested: int
    """Number of slices."""


def slices(evidence: ErrorEvidence) -> Slices:
    """Compute error rates by text length, true label, proportion of rare words, and group.

    Each slice is compared with all other rows by a two-sided exact test (hypergeometric), corrected
    over all slices of all methods by Benjamini and Hochberg. If rows belong to groups, all counts
    are first divided by their design effect.
    """
    parts = [(kind, name, inside) for kind, name, inside in _parts(evidence) if inside.any()]
    total = len(evidence)
    parts = [part for part in parts if part[2].sum() < total]
    if not parts:
        return Slices({m.name: [] for m in evidence.methods}, 0)
    inside = np.stack([part[2] for part in parts], 1).astype(np.int64)
    wrong = np.stack([evidence.wrong[m.name] for m in evidence.methods], 1).astype(np.int64)
    rows, hits, errors = inside.sum(0), inside.T @ wrong, wrong.sum(0)
    effect = design_effects(inside, wrong, evidence.group_codes)
    p = differs_from_rest(hits / effect, rows[:, None] / effect, errors / effect, total / effect)
    q = adjusted(p)
    low, high = wilson(hits / effect, rows[:, None] / effect)
    rest = (errors - hits) / (total - rows)[:, None]
    found: dict[str, list[Slice]] = {}
    for j, method in enumerate(evidence.methods):
        worse = hits[:, j] / rows - rest[:, j]
        order = sorted(range(len(parts)), key=lambda i: (p[i, j], -worse[i]))
        found[method.name] = [
            Slice(
                parts[i][0], parts[i][1], int(rows[i]), int(hits[i, j]),
                float(hits[i, j] / rows[i]), float(low[i, j]), float(high[i, j]),
                float(rest[i, j]), float(q[i, j]),
            )
            for i in order
        ]  # fmt: skip
    return Slices(found, len(parts))


def _parts(evidence: ErrorEvidence) -> Iterator[tuple[str, str, Bools]]:
    """Yield each slice as kind, name, and (rows,) whether a row belongs to it."""
    if evidence.texts:
        lengths = np.array([len(text) for text in evidence.joined], np.float64)
        for low, high, inside in _quantiles(lengths):
            yield "length", f"{fmt.count(low)} to {fmt.count(high)} characters", inside
    if len(evidence.labels) > 1:
        for i, label in enumerate(evidence.labels):
            yield "label", label, evidence.true == i
    if evidence.texts and evidence.training_texts:
        for low, high, inside in _quantiles(_rare_shares(evidence)):
            yield "rare words", f"{_percents(low, high)} rare words", inside
    if evidence.groups:
        sizes = Counter(group for group in evidence.groups if group)
        groups = np.array(evidence.groups, dtype=object)
        for group, rows in sizes.most_common(MOST_GROUPS):
            if rows >= LEAST_ROWS:
                yield "group", group, np.asarray(groups == group)


def _percents(low: float, high: float) -> str:
    if high == 0:
        return "no"
    return fmt.percent(100 * low) if low == high else f"{100 * low:.1f} to {100 * high:.1f} %"


def _quantiles(values: Floats) -> Iterator[tuple[float, float, Bools]]:
    """Yield quantile bins as smallest value, largest value, and (rows,) membership."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="left")
    for i in np.unique(place):
        inside = place == i
        yield float(values[inside].min()), float(values[inside].max()), inside


def _rare_shares(evidence: ErrorEvidence) -> Floats:
    """Return the (rows,) proportion of each row's distinct words that are rare in training."""
    seen: Counter[str] = Counter()
    for text in evidence.training_texts:
        seen.update(words_of(text))
    shares = []
    for text in evidence.joined:
        own = words_of(text)
        shares.append(sum(seen[word] < RARE for word in own) / len(own) if own else 0.0)
    return np.array(shares)
