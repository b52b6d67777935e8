"""Scores from arrays of labels, predictions and probabilities.

Used by the engine at the end of a run, and for predictions that are read from a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneoff.results.record import ClassScores, Scores

ECE_BINS = 15

LEAST_SKILL = 0.1
"""Skill below which a model is at chance, where guessing has a skill of 0 and perfect recall one of
1. It is above 0 because even a random head separates texts a little."""


def scores(
    true: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    probabilities: npt.NDArray[Any] | None,
    weights: npt.NDArray[np.float64],
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
    from sklearn import metrics

    every = np.arange(len(labels))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        true, predicted, labels=every, sample_weight=weights, zero_division=0
    )
    mass = np.bincount(true, weights=weights, minlength=len(labels))
    support = np.bincount(true, minlength=len(labels))
    there = mass > 0
    return Scores(
        accuracy=float(np.average(predicted == true, weights=weights)),
        macro_f1=float(f1[there].mean()),
        weighted_f1=float(np.average(f1, weights=mass)),
        macro_precision=float(precision[there].mean()),
        macro_recall=float(recall[there].mean()),
        mcc=_correlation(true, predicted, weights),
        log_loss=None if probabilities is None else log_loss(true, probabilities, weights),
        ece=None
        if probabilities is None
        else expected_calibration_error(true, probabilities, weights),
        per_class={
            label: ClassScores(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        confusion_matrix=metrics.confusion_matrix(true, predicted, labels=every).tolist(),
    )


def _correlation(
    true: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
) -> float:
    """Return Matthews' correlation coefficient, 0 for a single label as in scikit-learn."""
    from sklearn.metrics import matthews_corrcoef

    if len(np.union1d(true, predicted)) == 1:
        return 0.0
    return float(matthews_corrcoef(true, predicted, sample_weight=weights))


def log_loss(
    true: npt.NDArray[np.int64],
    probabilities: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
) -> float:
    """Return the mean negative log probability of the true label, in nats.

    Probabilities are clipped at 1.2e-7, the resolution of float32.
    """
    of_true = probabilities[np.arange(len(true)), true].astype(np.float64)
    of_true = np.maximum(of_true, np.finfo(np.float32).eps)
    return float(-np.average(np.log(of_true), weights=weights))


def expected_calibration_error(
    true: npt.NDArray[np.int64],
    probabilities: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
) -> float:
    """Return the mean gap between confidence and accuracy over 15 bins of equal width.

    Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == true).astype(np.float64)
    gaps = np.bincount(
        confidence_bins(confidence), weights=weights * (right - confidence), minlength=ECE_BINS
    )
    return float(np.abs(gaps).sum() / weights.sum())


def confidence_bins(confidence: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the (rows,) bin of each confidence, out of `ECE_BINS` bins of equal width."""
    return np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)


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
