"""Metrics of quality: one entry of `METRICS` is all that there is to a metric.

A metric is defined on counts of rows per label (`of_counts`), or on the probabilities of each row
(`of_rows`). The same definition gives the score of a run and its scores in the bootstrap, where
rows have random weights: arrays have the shape (r, labels, b) for r runs and b samples of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ECE_BINS = 15


@dataclass(frozen=True)
class Counts:
    """Sums of row weights by label."""

    hits: Floats
    """(r, labels, b) rows of a label that are predicted correctly."""
    predicted: Floats
    """(r, labels, b) rows that are predicted as the label."""
    true: Floats
    """(1, labels, b) rows with the label."""

    @property
    def total(self) -> Floats:
        """(1, b) sum of all weights."""
        total: Floats = self.true.sum(1)
        return total

    @cached_property
    def f1(self) -> Floats:
        """F1 of each label, (r, labels, b)."""
        return ratio(2 * self.hits, self.predicted + self.true)

    @property
    def precision(self) -> Floats:
        """Precision of each label, (r, labels, b)."""
        return ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Floats:
        """Recall of each label, (r, labels, b)."""
        return ratio(self.hits, self.true)

    def macro(self, by_label: Floats) -> Floats:
        """Return the (r, b) mean over the labels with rows."""
        there = self.true > 0
        mean: Floats = (by_label * there).sum(1) / there.sum(1)
        return mean


@dataclass(frozen=True)
class RowPredictions:
    """What r runs say about n rows, as far as metrics of probabilities need it."""

    of_true: Floats
    """(r, n) probability of the true label."""
    confidence: Floats
    """(r, n) largest probability."""
    correct: npt.NDArray[np.bool_]
    """(r, n) whether the prediction is correct."""


@dataclass(frozen=True)
class RowValues:
    """A value of each row, in bins: the metric is sum over bins |sum of w value| / sum of w."""

    values: Floats
    """(r, n)"""
    bins: Integers | None = None
    """(r, n) bin of each row; None: one bin."""
    bin_count: int = 1


@dataclass(frozen=True)
class Metric:
    """A metric of quality, by which runs are compared."""

    key: str
    """Name in records and study files."""
    title: str
    unit: Literal["share", "nats"]
    higher_is_better: bool
    definition: str
    """Definition in one sentence."""
    short_title: str = ""
    """Title in a narrow table; empty: `title`."""
    of_counts: Callable[[Counts], Floats] | None = None
    """(r, b) scores from labels and predictions alone."""
    of_rows: Callable[[RowPredictions], RowValues] | None = None
    """Values of the rows, for a metric of probabilities."""


def ratio(part: Floats, whole: Floats) -> Floats:
    """Return `part / whole`, and 0 where `whole` is 0, as scikit-learn does."""
    zeros = np.zeros(np.broadcast(part, whole).shape)
    return np.divide(part, whole, out=zeros, where=whole > 0)


def confidence_bins(confidence: Floats) -> Integers:
    """Return the bin of each confidence, out of `ECE_BINS` bins of equal width."""
    return np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)


def _matthews(counts: Counts) -> Floats:
    # Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient,
    # Computational Biology and Chemistry 28.
    total, true, predicted = counts.total, counts.true, counts.predicted
    covariance = counts.hits.sum(1) * total - (predicted * true).sum(1)
    spread = (total**2 - (predicted**2).sum(1)) * (total**2 - (true**2).sum(1))
    return ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def _log_losses(rows: RowPredictions) -> RowValues:
    return RowValues(-np.log(np.maximum(rows.of_true, np.finfo(np.float32).eps)))


def _calibration_gaps(rows: RowPredictions) -> RowValues:
    return RowValues(rows.correct - rows.confidence, confidence_bins(rows.confidence), ECE_BINS)


_METRICS = (
    Metric(
        "accuracy",
        "accuracy",
        "share",
        True,
        "Share of the rows that are predicted correctly.",
        "acc.",
        of_counts=lambda counts: counts.hits.sum(1) / counts.total,
    ),
    Metric(
        "macro_f1",
        "macro-F1",
        "share",
        True,
        "Mean of the F1 scores of the labels with rows.",
        of_counts=lambda counts: counts.macro(counts.f1),
    ),
    Metric(
        "weighted_f1",
        "weighted F1",
        "share",
        True,
        "Mean of the F1 scores of the labels, weighted by their numbers of rows.",
        "wtd F1",
        of_counts=lambda counts: (counts.f1 * counts.true).sum(1) / counts.total,
    ),
    Metric(
        "macro_precision",
        "macro precision",
        "share",
        True,
        "Mean of the precision of the labels with rows.",
        "precis.",
        of_counts=lambda counts: counts.macro(counts.precision),
    ),
    Metric(
        "macro_recall",
        "macro recall",
        "share",
        True,
        "Mean of the recall of the labels with rows (balanced accuracy).",
        "recall",
        of_counts=lambda counts: counts.macro(counts.recall),
    ),
    Metric(
        "mcc",
        "Matthews correlation",
        "share",
        True,
        "Matthews correlation coefficient of true and predicted labels.",
        "MCC",
        of_counts=_matthews,
    ),
    Metric(
        "log_loss",
        "log loss",
        "nats",
        False,
        "Mean negative log probability of the true label, clipped at 1.2e-7.",
        of_rows=_log_losses,
    ),
    Metric(
        "ece",
        "expected calibration error",
        "share",
        False,
        "Mean gap between confidence and accuracy over 15 bins of the largest probability"
        " (Guo et al. 2017, On Calibration of Modern Neural Networks).",
        "ECE",
        of_rows=_calibration_gaps,
    ),
)

QUALITY_METRICS: dict[str, Metric] = {metric.key: metric for metric in _METRICS}
"""All metrics, by key."""
