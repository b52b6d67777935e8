"""Overlap of errors: which methods correct which others' errors, and which rows all get wrong.

Two methods with an accuracy of 90 % share some errors by chance, and two seeds of one method differ
as well. Each pair of methods therefore has an error consistency, which is 0 if errors coincide as
often as expected by chance and 1 if they are identical. The pairs of seeds of one method show which
values to expect for two methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from tuneoff.error_analysis.evidence import ErrorEvidence, Ints, MethodPredictions


@dataclass(frozen=True)
class Disagreement:
    """A combination of different predictions of two methods."""

    first: str
    """Label predicted by the first method."""
    second: str
    """Label predicted by the second method."""
    rows: float
    """Number of test rows, mean over the pairs of seeds."""


@dataclass(frozen=True)
class ErrorOverlap:
    """Two methods on the same test rows; fractions of rows are means over all pairs of seeds.

    If `first` and `second` are the same method, the pairs are those of its different seeds.
    """

    first: str
    """Name of the first method."""
    second: str
    """Name of the second method."""
    both_right: float
    """Fraction of rows that both methods predict correctly."""
    first_only: float
    """Fraction of rows that only the first method predicts correctly."""
    second_only: float
    """Fraction of rows that only the second method predicts correctly."""
    both_wrong: float
    """Fraction of rows that both methods predict wrongly."""
    both_wrong_by_chance: float
    """Expected value of `both_wrong` for independent errors: the product of the error rates."""
    same_wrong_label: float
    """Among the rows that both predict wrongly, the fraction with the same wrong label."""
    consistency: float | None
    """Cohen's kappa of being correct; None if one method has no errors, or only errors.

    Geirhos, Meding and Wichmann 2020, Beyond accuracy: quantifying trial-by-trial behaviour of
    CNNs and humans by measuring error consistency.
    """
    disagreements: list[Disagreement]
    """Most frequent combinations of different predictions."""


@dataclass(frozen=True)
class Overlap:
    """Overlap of the errors of all methods."""

    pairs: list[ErrorOverlap]
    """All pairs of methods, and the seeds of each method."""
    contenders: list[str]
    """Methods that the following counts cover: all except the untrained baseline."""
    all_right: int
    """Number of rows that all contenders predict correctly."""
    all_wrong: int
    """Number of rows that all contenders predict wrongly."""
    best: str
    """Contender with the highest accuracy, by majority vote of its seeds."""
    best_accuracy: float
    """Accuracy of the best contender."""
    oracle_accuracy: float
    """Fraction of rows that at least one contender predicts correctly: the accuracy of an oracle
    that selects the right method for each row."""


def overlap(evidence: ErrorEvidence) -> Overlap:
    """Compare the errors of all pairs of methods, and of all contenders together."""
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


def _pair(
    evidence: ErrorEvidence, a: MethodPredictions, b: MethodPredictions
) -> ErrorOverlap | None:
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
    return ErrorOverlap(
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
