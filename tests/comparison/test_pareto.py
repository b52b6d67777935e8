"""Pareto front of quality against cost, and recommendations by goal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tuneoff.comparison.pareto import pareto_fronts

Judged = Callable[..., dict[str, Any]]


def places(summary: dict[str, Any], key: str = "train_seconds") -> dict[str, str]:
    return {entry["name"]: entry["place"] for entry in summary["pareto_fronts"][key]}


METHODS: dict[str, tuple[float, dict[str, Any]]] = {
    "full": (0.9, {"train_seconds": 240.0}),
    "lora": (0.899, {"train_seconds": 90.0}),
    "head": (0.8, {"train_seconds": 9.0}),
    "ia3": (0.7, {"train_seconds": 120.0}),
}


def test_dominated_if_more_expensive_and_not_better(judged: Judged) -> None:
    found = judged(METHODS, rows=5000)
    # full is 0.1 points better than lora and shown to be equivalent, so it is dominated
    assert places(found) == {"head": "surely", "lora": "surely", "ia3": "off", "full": "off"}
    by = {e["name"]: e["dominated_by"] for e in found["pareto_fronts"]["train_seconds"]}
    assert by == {"head": [], "lora": [], "ia3": ["head", "lora"], "full": ["lora"]}
    assert [e["cost"] for e in found["pareto_fronts"]["train_seconds"]] == [9, 90, 120, 240]


def test_unresolved_methods_are_possibly_on_the_front(judged: Judged) -> None:
    # by the means alone, full would be on the front
    found = places(judged(METHODS, rows=200))
    assert found["full"] == "possibly"
    assert found["head"] == "surely"


def test_equivalent_methods_with_similar_costs_are_not_dominated(judged: Judged) -> None:
    alike = {"full": (0.9, {"train_seconds": 100.0}), "lora": (0.9, {"train_seconds": 95.0})}
    assert places(judged(alike, rows=5000)) == {"lora": "possibly", "full": "possibly"}
    better = {"full": (0.8, {"train_seconds": 100.0}), "lora": (0.9, {"train_seconds": 95.0})}
    assert places(judged(better, rows=5000)) == {"lora": "surely", "full": "off"}


def test_unknown_cost_has_no_front(judged: Judged) -> None:
    found = judged(METHODS, rows=5000)
    assert set(found["pareto_fronts"]) == {"train_seconds", "peak_memory_bytes", "storage_bytes"}
    timed = {name: (s, {**c, "latency_seconds": 0.01}) for name, (s, c) in METHODS.items()}
    assert len(judged(timed, rows=5000)["pareto_fronts"]["latency_seconds"]) == 4


def test_front_is_never_empty() -> None:
    # contradictory answers, which are possible because tests are not transitive
    rows = [
        {"name": n, "family": "", "quality": {"accuracy": {"mean": 0.9}},
         "cost": {"train_seconds": {"mean": c}}}
        for n, c in (("a", 1.0), ("b", 1.15), ("c", 1.08))
    ]  # fmt: skip
    said = {("a", "b"): "equivalent", ("b", "c"): "better", ("c", "a"): "better"}
    pairs = [
        {"first": f, "second": s, "answer": answer, "difference": 0.0, "low": 0.0, "high": 0.0,
         "runs": [1, 1], "mcnemar": {"only_first": 0, "only_second": 0}, "also": {}}
        for (f, s), answer in said.items()
    ]  # fmt: skip
    found = pareto_fronts(rows, {"metric": "accuracy", "pairs": pairs}, [])
    assert {e["name"]: e["place"] for e in found["train_seconds"]} == {
        "a": "possibly",
        "c": "possibly",
        "b": "off",
    }


def test_recommendation_by_goal(judged: Judged) -> None:
    def of(s: float, seconds: float, memory: float, disk: float, one: float) -> Any:
        names = ("train_seconds", "peak_memory_bytes", "storage_bytes", "latency_seconds")
        return s, dict(zip(names, (seconds, memory, disk, one), strict=True))

    methods = {
        "full": of(0.901, 240, 9e8, 9e7, 0.004),
        "partial": of(0.9, 50, 7e8, 1.5e7, 0.004),
        "lora": of(0.9, 90, 6e8, 2e6, 0.006),
        "qlora": of(0.9, 180, 4e8, 2.1e6, 0.009),
        "head": of(0.7, 9, 1e8, 1e5, 0.001),  # cheapest, but much lower score
    }
    summary = judged(methods, rows=5000)
    found = {goal["goal"]: goal for goal in summary["recommendation"]["by_goal"]}
    assert {use: entry["name"] for use, entry in found.items()} == {
        "most accurate": "full",
        "fastest training": "partial",
        "lowest memory": "qlora",
        "smallest saved weights": "lora",
        "lowest latency": "full",
    }
    memory = found["lowest memory"]
    assert memory["figure"] == 4e8
    assert memory["runner_up"] == {"name": "lora", "figure": 6e8}
    assert (memory["evidence"]["second"], memory["evidence"]["answer"]) == ("full", "equivalent")
    assert memory["command"].startswith("tuneoff predict 'studies/my study/runs/qlora-s")
    assert found["most accurate"]["figure"] == pytest.approx(0.9015)
    without = judged(METHODS, rows=5000)["recommendation"]["by_goal"]
    assert "lowest latency" not in {goal["goal"] for goal in without}
