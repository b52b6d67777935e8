"""Detection of predictions at chance level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuneoff.audit.costs import chance_level_in_cost
from tuneoff.audit.evidence import AuditEvidence
from tuneoff.comparison.candidates import GUESSING, excluded
from tuneoff.config import parse_study
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import (
    ClassScores,
    Cost,
    DataInfo,
    MethodInfo,
    Quality,
    RunRecord,
    Scores,
    Status,
)
from tuneoff.results.scores import at_chance, blind_warnings, scores


def of(true: list[int], predicted: list[int], labels: list[str]) -> list[str]:
    ones = np.ones(len(true))
    return blind_warnings(scores(np.array(true), np.array(predicted), None, ones, labels), labels)


def test_constant_prediction() -> None:
    assert of([0, 1] * 50, [1] * 100, ["a", "b"]) == [
        "learned nothing: all test rows are predicted as 'b'"
    ]
    assert of([0] * 99 + [1], [0] * 100, ["a", "b"])  # even if it is mostly correct


def test_chance() -> None:
    draw = np.random.default_rng(0)
    true, blind = draw.integers(0, 3, 600).tolist(), draw.integers(0, 3, 600).tolist()
    (said,) = of(true, blind, ["a", "b", "c"])
    assert said.startswith("no better than guessing: the mean recall over the labels is 0.3")
    assert said.endswith("and that of guessing 0.3333")
    half = [t if i % 2 else b for i, (t, b) in enumerate(zip(true, blind, strict=True))]
    assert of(true, half, ["a", "b", "c"]) == []


@pytest.mark.parametrize(("method", "said"), [("full", True), ("baseline", False)])
def test_record_has_a_warning(run_toy: Any, method: str, said: bool) -> None:
    record = run_toy(method, epochs=1, learning_rate=1e-12).record
    known = ("learned nothing", "no better than guessing")
    assert any(warning.startswith(known) for warning in record.warnings) == said


def with_recalls(**recalls: float) -> Scores:
    each = {name: ClassScores(0.5, value, 0.5, 300) for name, value in recalls.items()}
    matrix = [[100] * len(recalls)] * len(recalls)  # every label is predicted
    return Scores(dict.fromkeys(QUALITY_METRICS, 0.5), each, matrix)


@pytest.mark.parametrize(
    ("recalls", "guesses"),
    [
        ({"a": 1.0, "b": 0.0, "c": 0.0}, True),  # the majority label, however frequent
        ({"a": 0.4, "b": 0.35, "c": 0.35}, True),  # a random head
        ({"a": 0.55, "b": 0.54}, True),  # above guessing, but by less than the threshold
        ({"a": 0.60, "b": 0.58}, False),
        ({"a": 0.99, "b": 0.3}, False),  # nearly all rows of one label, some of the other
    ],
)
def test_warning_recommendation_and_audit_use_the_same_threshold(
    recalls: dict[str, float], guesses: bool
) -> None:
    test = with_recalls(**recalls)
    assert at_chance([test]) == guesses
    assert bool(blind_warnings(test, list(recalls))) == guesses
    study = parse_study({"model": "m", "data": {"train": "t.csv"}, "methods": ["full", "head"]})
    records = [
        RunRecord(
            run_id=name,
            status=Status.FINISHED,
            method=MethodInfo(name, name, "selective", {}),
            seed=0,
            model="m",
            metric="macro_f1",
            data=DataInfo("f" * 64, 900, 100, 300 * len(recalls), list(recalls)),
            train={},
            quality=Quality(test=test if name == "head" else with_recalls(a=0.9, b=0.9)),
            cost=Cost(train_seconds=1.0),
        )
        for name in ("full", "head")
    ]
    reasons = excluded([{"name": "full"}, {"name": "head"}], records, {}, {})
    assert reasons == ({"head": GUESSING} if guesses else {})
    finding = chance_level_in_cost(AuditEvidence(study, records=records))
    assert (finding.concerned if finding else []) == (["head"] if guesses else [])


def test_chance_level_is_undefined_with_one_label() -> None:
    assert not at_chance([with_recalls(a=1.0)])
    assert not at_chance([])
