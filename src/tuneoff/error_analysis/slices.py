"""Parts of the test rows that go wrong more, or less, often than the rest."""

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
from tuneoff.error_analysis.evidence import Bools, Evidence, Floats
from tuneoff.error_analysis.words import words_of

BINS = 5
"""Equally full parts of a quantity."""
LEAST_ROWS = 20
"""Test rows below which a group is not looked at."""
MOST_GROUPS = 200
RARE = 5
"""A word is rare that stands in fewer training rows than this."""


@dataclass(frozen=True)
class Slice:
    """One part of the test rows under one method."""

    kind: str
    """`length`, `label`, `rare words` or `group`."""
    name: str
    rows: int
    errors: int
    rate: float
    low: float
    high: float
    """95 % interval of the rate (Wilson)."""
    rest: float
    """Error rate of all other rows."""
    q: float
    """False discovery rate over all slices and methods looked at."""

    @property
    def sure(self) -> bool:
        """Whether the difference from the rest is more than luck."""
        return self.q <= SURE


@dataclass(frozen=True)
class Slices:
    """The view on slices."""

    methods: dict[str, list[Slice]]
    """Of each method, those that differ most surely first; of two alike, the worse one."""
    looked_at: int


def slices(evidence: Evidence) -> Slices:
    """Error rates by length, true label, share of rare words, and group.

    Each slice against all other rows by an exact test with two sides (hypergeometric), corrected
    over all slices of all methods by Benjamini and Hochberg. Where rows come in groups, all counts
    are divided by their design effect first.
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


def _parts(evidence: Evidence) -> Iterator[tuple[str, str, Bools]]:
    """(kind, name, (rows,) whether a row is inside)."""
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
    """Equally full bins by their smallest and largest value; equal values stay together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="left")
    for i in np.unique(place):
        inside = place == i
        yield float(values[inside].min()), float(values[inside].max()), inside


def _rare_shares(evidence: Evidence) -> Floats:
    """(rows,) share of a row's different words that stand in fewer than `RARE` training rows."""
    seen: Counter[str] = Counter()
    for text in evidence.training_texts:
        seen.update(words_of(text))
    shares = []
    for text in evidence.joined:
        own = words_of(text)
        shares.append(sum(seen[word] < RARE for word in own) / len(own) if own else 0.0)
    return np.array(shares)
