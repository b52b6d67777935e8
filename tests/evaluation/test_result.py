"""Intervals and distribution shifts of an evaluation, compared with formulas."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.evaluation.result import intervals, label_shift


def answers(right: int, rows: int, seed: int = 0) -> RunPredictions:
    truth = np.arange(rows) % 2
    correct = np.random.default_rng(seed).permutation(np.arange(rows) < right)
    return RunPredictions(
        np.arange(rows), truth, np.where(correct, truth, 1 - truth), np.ones(rows)
    )


def test_interval_of_accuracy_is_that_of_a_proportion() -> None:
    new, test = answers(800, 1000), answers(540, 600, seed=1)
    ((own, differences),) = intervals([new], [test], 2)
    found = own["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.003)
    difference = differences["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1000 + 0.9 * 0.1 / 600)
    assert difference.value == pytest.approx(-0.1)
    bounds = (-0.1 - half, -0.1 + half)
    assert (difference.low, difference.high) == pytest.approx(bounds, abs=0.004)


def test_new_and_test_rows_are_resampled_independently() -> None:
    same = answers(800, 1000)
    ((_, differences),) = intervals([same], [same], 2)
    found = differences["accuracy"]
    assert found.value == 0
    half = 1.96 * np.sqrt(2 * 0.8 * 0.2 / 1000)
    assert found.high == pytest.approx(half, abs=0.004)


def test_no_difference_without_test_predictions() -> None:
    ((own, differences),) = intervals([answers(80, 100)], [None], 2)
    assert own
    assert differences == {}


def test_label_shift() -> None:
    found = label_shift({"a": 50, "b": 50, "c": 0}, {"a": 80, "b": 20, "c": 0})
    assert found
    assert found.distance == pytest.approx(0.3)
    assert found.p < 1e-4
    same = label_shift({"a": 10, "b": 20}, {"a": 100, "b": 200})
    assert same
    assert same.p == pytest.approx(1)
    assert label_shift({"a": 0}, {"a": 5}) is None
