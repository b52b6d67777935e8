"""Whether methods err on the same rows: who fixes what whom breaks, and what no method gets right.

Two methods that are right on nine rows in ten share errors by chance alone, and two seeds of one
method differ, too. So every pair comes with the error consistency, which is 0 for errors that fall
together as often as chance has it and 1 for the same errors, and the seeds of one method among
themselves are the yardstick for two methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from tuneoff.error_analysis.evidence import Evidence, Ints, MethodAnswers


@dataclass(frozen=True)
class Disagreement:
    """One label by the first method, another one by the second."""

    first: str
    second: str
    rows: float
    """Test rows, mean over the pairs of seeds."""


@dataclass(frozen=True)
class Pair:
    """Two methods on the same test rows; shares are means over all pairs of their seeds.

    Where `first` and `second` are the same, over the pairs of different seeds of that method.
    """

    first: str
    second: str
    both_right: float
    first_only: float
    """Right under the first, wrong under the second."""
    second_only: float
    both_wrong: float
    both_wrong_by_chance: float
    """The product of the two error rates."""
    same_wrong_label: float
    """Of the rows that both get wrong, the share with the same wrong label."""
    consistency: float | None
    """Cohen's kappa of being right; None where one of them makes no error, or nothing else.

    Geirhos, Meding and Wichmann 2020, Beyond accuracy: quantifying trial-by-trial behaviour of
    CNNs and humans by measuring error consistency.
    """
    disagreements: list[Disagreement]
    """The most frequent ones first."""


@dataclass(frozen=True)
class Overlap:
    """The view on error overlap."""

    pairs: list[Pair]
    contenders: list[str]
    """The methods that the counts below are over: all but the untuned baseline."""
    all_right: int
    """Rows that every contender gets right."""
    all_wrong: int
    best: str
    best_accuracy: float
    """Of the contender that is right on most rows (the answers of its seeds put together)."""
    oracle_accuracy: float
    """Share of rows that at least one contender gets right: what picking the right method for
    each row would reach."""


def overlap(evidence: Evidence) -> Overlap:
    """Every pair of methods, and all contenders together."""
    pairs = [
        pair
        for a, b in combinations_with_replacement(evidence.methods, 2)
        if (pair := _pair(evidence, a, b)) is not None
    ]
    names = [m.name for m in evidence.contenders]
    wrong = np.stack([evidence.wrong[name] for name in names])
    accuracies = 1 - wrong.mean(1)
    best = int(accuracies.argmax())
    return Overlap(
        pairs=pairs,
        contenders=names,
        all_right=int((~wrong).all(0).sum()),
        all_wrong=int(wrong.all(0).sum()),
        best=names[best],
        best_accuracy=float(accuracies[best]),
        oracle_accuracy=float(1 - wrong.all(0).mean()),
    )


def _pair(evidence: Evidence, a: MethodAnswers, b: MethodAnswers) -> Pair | None:
    runs = [
        (x.predicted, y.predicted)
        for i, x in enumerate(a.test)
        for j, y in enumerate(b.test)
        if a is not b or i < j
    ]
    if not runs:
        return None
    true = evidence.true
    right = [(x == true, y == true) for x, y in runs]
    cells = np.mean(
        [[(x & y).mean(), (x & ~y).mean(), (~x & y).mean(), (~x & ~y).mean()] for x, y in right], 0
    )
    both_right, first_only, second_only, both_wrong = map(float, cells)
    first_wrong, second_wrong = second_only + both_wrong, first_only + both_wrong
    same = [((x == y) & (x != true)).mean() for x, y in runs]
    return Pair(
        first=a.name,
        second=b.name,
        both_right=both_right,
        first_only=first_only,
        second_only=second_only,
        both_wrong=both_wrong,
        both_wrong_by_chance=first_wrong * second_wrong,
        same_wrong_label=float(np.mean(same)) / both_wrong if both_wrong else 0.0,
        consistency=_kappa(both_right + both_wrong, first_wrong, second_wrong),
        disagreements=_disagreements(evidence.labels, runs),
    )


def _kappa(observed: float, first_wrong: float, second_wrong: float) -> float | None:
    by_chance = first_wrong * second_wrong + (1 - first_wrong) * (1 - second_wrong)
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else None


MOST_DISAGREEMENTS = 3


def _disagreements(labels: Sequence[str], runs: Sequence[tuple[Ints, Ints]]) -> list[Disagreement]:
    size = len(labels)
    together = np.zeros(size * size)
    for x, y in runs:
        together += np.bincount(x * size + y, minlength=size * size)
    counts = (together / len(runs)).reshape(size, size)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_DISAGREEMENTS]
    return [
        Disagreement(labels[i], labels[j], float(counts[i, j]))
        for i, j in (divmod(int(place), size) for place in order)
        if counts[i, j] > 0
    ]
