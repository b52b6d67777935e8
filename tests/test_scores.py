"""Answers that a model did not learn are told as such."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuneoff.scores import blind_warnings, scores


def of(true: list[int], predicted: list[int], labels: list[str]) -> list[str]:
    ones = np.ones(len(true))
    return blind_warnings(scores(np.array(true), np.array(predicted), None, ones, labels), labels)


def test_one_label_throughout() -> None:
    assert of([0, 1] * 50, [1] * 100, ["a", "b"]) == [
        "learned nothing: every test row was given the label 'b'"
    ]
    assert of([0] * 99 + [1], [0] * 100, ["a", "b"])  # however right it mostly is


def test_chance() -> None:
    draw = np.random.default_rng(0)
    true, blind = draw.integers(0, 3, 600).tolist(), draw.integers(0, 3, 600).tolist()
    (said,) = of(true, blind, ["a", "b", "c"])
    assert said.startswith("learned nothing that shows: an accuracy of 0.3")
    half = [t if i % 2 else b for i, (t, b) in enumerate(zip(true, blind, strict=True))]
    assert of(true, half, ["a", "b", "c"]) == []


@pytest.mark.parametrize(("method", "said"), [("full", True), ("baseline", False)])
def test_the_record_says_it(run_toy: Any, method: str, said: bool) -> None:
    record = run_toy(method, epochs=1, learning_rate=1e-12).record
    assert any("learned nothing" in warning for warning in record.warnings) == said
