"""Scores from arrays of labels, predictions and probabilities.

Used by the engine at the end of a run, and for predictions that are read from a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneoff.results.metrics import (
    QUALITY_METRICS,
    Counts,
    Floats,
    Integers,
    Metric,
    RowPredictions,
)
from tuneoff.results.record import ClassScores, Scores

LEAST_SKILL = 0.1
"""Skill below which a model is at chance, where guessing has a skill of 0 and perfect recall one of
1. It is above 0 because even a random head separates texts a little."""


def scores(
    true: Integers,
    predicted: Integers,
    probabilities: npt.NDArray[Any] | None,
    weights: Floats,
    labels: Sequence[str],
) -> Scores:
    """Return all scores over the labels of the study.

    Macro averages are over the labels that occur among the true labels. They are those of
    scikit-learn, unless a model predicts a label that no row has: scikit-learn then averages over
    one label more for this model than for others.

    Args:
        true: (rows,) true labels, as positions in `labels`.
        predicted: (rows,) predicted labels.
        probabilities: (rows, labels) probabilities; None leaves `log_loss` and `ece` unknown.
        weights: (rows,) row weights, scikit-learn's `sample_weight`.
        labels: Labels of the study.
    """
    size = len(labels)
    correct = predicted == true

    def masses(places: Integers, of: Floats) -> Floats:
        sums: Floats = np.bincount(places, weights=of, minlength=size).astype(np.float64)
        return sums.reshape(1, size, 1)

    counts = Counts(
        hits=masses(true, weights * correct),
        predicted=masses(predicted, weights),
        true=masses(true, weights),
    )
    rows = None if probabilities is None else _answers(true, probabilities)
    support = np.bincount(true, minlength=size)
    by_label = zip(
        counts.precision[0, :, 0], counts.recall[0, :, 0], counts.f1[0, :, 0], support, strict=True
    )
    confusion = np.bincount(true * size + predicted, minlength=size**2).reshape(size, size)
    return Scores(
        metrics={m.key: _score(m, counts, rows, weights) for m in QUALITY_METRICS.values()},
        per_class={
            label: ClassScores(float(precision), float(recall), float(f1), int(number))
            for label, (precision, recall, f1, number) in zip(labels, by_label, strict=True)
        },
        confusion_matrix=confusion.tolist(),
    )


def _answers(true: Integers, probabilities: npt.NDArray[Any]) -> RowPredictions:
    return RowPredictions(
        of_true=probabilities[np.arange(len(true)), true].astype(np.float64)[None],
        confidence=probabilities.max(1).astype(np.float64)[None],
        correct=(probabilities.argmax(1) == true)[None],
    )


def _score(
    metric: Metric, counts: Counts, rows: RowPredictions | None, weights: Floats
) -> float | None:
    """Return the score of one run; None if it needs probabilities that are not there."""
    if metric.of_counts is not None:
        return float(metric.of_counts(counts)[0, 0])
    return None if rows is None else _score_of_rows(metric, rows, weights)


def probability_score(
    key: str, true: Integers, probabilities: npt.NDArray[Any], weights: Floats
) -> float:
    """Return a score of one run by a metric of probabilities, such as `log_loss` or `ece`.

    Args:
        key: Key of the metric.
        true: (rows,) true labels, as columns of `probabilities`.
        probabilities: (rows, labels).
        weights: (rows,) row weights.
    """
    return _score_of_rows(QUALITY_METRICS[key], _answers(true, probabilities), weights)


def _score_of_rows(metric: Metric, rows: RowPredictions, weights: Floats) -> float:
    assert metric.of_rows is not None
    found = metric.of_rows(rows)
    values, bins = found.values[0], None if found.bins is None else found.bins[0]
    bins = np.zeros(len(values), np.int64) if bins is None else bins
    sums = np.bincount(bins, weights=weights * values, minlength=found.bin_count)
    return float(np.abs(sums).sum() / weights.sum())


def guessing_recall(scores: Scores) -> float | None:
    """Return the mean recall of a model that ignores the text: 1 / number of labels with rows.

    All such models have the same mean recall, a constant prediction included. None for one label.
    """
    present = sum(label.support > 0 for label in scores.per_class.values())
    return 1 / present if present > 1 else None


def mean_recall(scores: Scores) -> float:
    """Return the mean recall over the labels with test rows (balanced accuracy)."""
    return float(np.mean([c.recall for c in scores.per_class.values() if c.support]))


def at_chance(runs: Sequence[Scores]) -> bool:
    """Return whether the runs of a method are not significantly better than guessing.

    Skill is the mean recall over the labels, rescaled so that guessing is 0 and perfect recall 1.
    A method is at chance if its mean skill is below `LEAST_SKILL`, or not above 0 by a one-sided
    test at the 5 % level. False without runs, and for a single label.
    """
    skills, errors = [], []
    for scores in runs:
        chance = guessing_recall(scores)
        if chance is None:
            return False
        skills.append((mean_recall(scores) - chance) / (1 - chance))
        variance = sum(c.recall * (1 - c.recall) / c.support for c in scores.per_class.values()
                       if c.support)  # fmt: skip
        errors.append(math.sqrt(variance) * chance / (1 - chance))
    if not skills:
        return False
    skill = sum(skills) / len(skills)
    return skill < LEAST_SKILL or skill <= 1.645 * max(errors)


def blind_warnings(scores: Scores, labels: Sequence[str]) -> list[str]:
    """Return warnings for predictions that are constant or at chance level."""
    given = [
        label
        for label, rows in zip(labels, zip(*scores.confusion_matrix, strict=True), strict=True)
        if any(rows)
    ]
    if len(given) == 1 and len(labels) > 1:
        return [f"learned nothing: all test rows are predicted as {given[0]!r}"]
    chance = guessing_recall(scores)
    if chance is not None and at_chance([scores]):
        return [
            "no better than guessing: the mean recall over the labels is"
            f" {mean_recall(scores):.4f} on the test rows, and that of guessing {chance:.4f}"
        ]
    return []
