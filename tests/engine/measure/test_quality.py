"""Scores, compared with scikit-learn and with values calculated by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tuneoff.engine.data.task import Split
from tuneoff.engine.measure.quality import score
from tuneoff.results.scores import probability_score


def split_of(labels: list[int], weights: list[float] | None = None) -> Split:
    nothing: Any = None
    return Split(
        name="test",
        tokens=nothing,
        labels=np.array(labels),
        weights=np.array(weights or [1.0] * len(labels), np.float32),
        rows=np.arange(len(labels)),
        path=Path(),
    )


def one_hot(labels: list[int], classes: int, sure: float = 0.9) -> np.ndarray[Any, Any]:
    rest = (1 - sure) / (classes - 1)
    found = np.full((len(labels), classes), rest, np.float32)
    found[np.arange(len(labels)), labels] = sure
    return found


def test_weighted_scores_equal_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    true = draw.integers(0, 3, 200)
    weights = draw.uniform(0.1, 3, 200).astype(np.float32)
    probabilities = draw.dirichlet([1, 1, 1], 200).astype(np.float32)
    predicted = probabilities.argmax(1)
    found = score(split_of(true.tolist(), weights.tolist()), probabilities, ["a", "b", "c"])
    options: dict[str, Any] = {"sample_weight": weights.astype(float)}
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, predicted, **options))
    for name in ("macro", "weighted"):
        expected = metrics.f1_score(true, predicted, average=name, **options)
        assert getattr(found, f"{name}_f1") == pytest.approx(expected)
    expected = metrics.precision_score(true, predicted, average="macro", **options)
    assert found.macro_precision == pytest.approx(expected)
    expected = metrics.recall_score(true, predicted, average="macro", **options)
    assert found.macro_recall == pytest.approx(expected)
    assert found.mcc == pytest.approx(metrics.matthews_corrcoef(true, predicted, **options))
    assert found.log_loss == pytest.approx(metrics.log_loss(true, probabilities, **options))
    assert found.confusion_matrix == metrics.confusion_matrix(true, predicted).tolist()
    assert sum(c.support for c in found.per_class.values()) == 200


def test_missing_label_is_not_in_macro_averages() -> None:
    true, predicted = [0, 0, 1, 1], [0, 1, 1, 1]
    found = score(split_of(true), one_hot(predicted, 3), ["a", "b", "c"])
    # a: precision 1, recall 1/2; b: precision 2/3, recall 1; c does not occur.
    assert found.macro_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.macro_recall == pytest.approx((1 / 2 + 1) / 2)
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.weighted_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.accuracy == 0.75
    assert found.per_class["c"].support == 0
    assert found.confusion_matrix == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_row_of_weight_two_counts_twice() -> None:
    labels = ["a", "b"]
    once = score(split_of([0, 1, 1], [2, 1, 1]), one_hot([0, 0, 1], 2), labels)
    twice = score(split_of([0, 0, 1, 1]), one_hot([0, 0, 0, 1], 2), labels)
    for name in ("accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "mcc"):
        assert getattr(once, name) == pytest.approx(getattr(twice, name)), name
    assert once.log_loss == pytest.approx(twice.log_loss)
    assert once.ece == pytest.approx(twice.ece)


@pytest.mark.parametrize("predicted", [[1, 1, 1], [0, 0, 0]])
def test_split_with_one_label(predicted: list[int]) -> None:
    """There is no warning, and the undefined correlation is 0."""
    found = score(split_of([1, 1, 1]), one_hot(predicted, 3), ["a", "b", "c"])
    assert found.accuracy == (predicted[0] == 1)
    assert found.mcc == 0


def test_log_loss_is_finite_for_probability_zero() -> None:
    found = probability_score(
        "log_loss", np.array([0, 1]), np.array([[0, 1], [0, 1]], np.float32), np.ones(2)
    )
    assert found == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2)


def test_calibration_error_example() -> None:
    # Two rows in the bin (10/15, 11/15], one right: gap |0.5 - 0.7|; one row certain and right.
    probabilities = np.array([[0.7, 0.3], [0.3, 0.7], [1.0, 0.0]], np.float32)
    found = probability_score("ece", np.array([0, 0, 0]), probabilities, np.ones(3))
    assert found == pytest.approx((2 * abs(0.5 - 0.7) + 0) / 3)
    heavy = probability_score("ece", np.array([0, 0, 0]), probabilities, np.array([1.0, 1.0, 2.0]))
    assert heavy == pytest.approx(2 * 0.2 / 4)


def test_calibration_errors_of_bins_do_not_cancel() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1]], np.float32)
    found = probability_score("ece", np.array([0, 1]), probabilities, np.ones(2))
    assert found == pytest.approx((0.4 + 0.9) / 2)
