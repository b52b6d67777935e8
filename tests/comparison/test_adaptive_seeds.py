"""Adaptive number of seeds: wider intervals, and selection of methods for further seeds."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.looks import Looks, widening
from tuneoff.comparison.next_seeds import seeds_line, seeds_used, worth_another_seed
from tuneoff.comparison.pairwise import compare_methods
from tuneoff.comparison.resolution import Threshold, chance
from tuneoff.comparison.statistics import Difference, MethodVariance
from tuneoff.config import parse_study
from tuneoff.external_predictions import FAMILY

NO_ROWS = np.zeros((2, 2))


def factor(first: int, last: int, rows: Any = NO_ROWS, spread: float = 1.0) -> float:
    sides = [MethodVariance(first, spread, 0.0) for _ in range(len(rows))]
    return widening(Looks(first, last), sides, rows, [1], 0.05)


@pytest.mark.parametrize(("looks", "bound"), [(2, 2.178), (3, 2.289), (5, 2.413), (8, 2.512)])
def test_factor_of_equally_spaced_looks_is_pococks(looks: int, bound: float) -> None:
    """Jennison and Turnbull 2000, Group Sequential Methods, table 2.1: 5 %, two-sided."""
    assert factor(1, looks) == pytest.approx(bound / 1.960, rel=0.025)


def test_shared_variance_reduces_the_factor() -> None:
    rows = np.eye(2)
    assert factor(2, 8, rows, spread=0.0) == 1
    assert factor(2, 2) == 1
    alone = widening(Looks(2, 8), [MethodVariance(2, 1.0, 0.0)], np.zeros((1, 1)), [1], 0.05)
    assert alone == 1
    assert 1 < factor(2, 8, rows) < factor(2, 8, rows / 10) < factor(2, 8)
    assert factor(2, 8, rows) == factor(2, 8, rows)


def test_many_looks_are_subsampled() -> None:
    assert Looks(2, 8).seeds == [2, 3, 4, 5, 6, 7, 8]
    many = Looks(2, 64).seeds
    assert many[0] == 2
    assert many[-1] == 64
    assert len(many) == 8


def test_all_intervals_are_wider_by_one_factor() -> None:
    random = np.random.default_rng(3)
    truth = np.arange(400) % 2

    def run(right: float) -> RunPredictions:
        predictions = np.where(random.random(400) < right, truth, 1 - truth)
        return RunPredictions(np.arange(400), truth, predictions, np.ones(400))

    runs = {
        name: [run(right) for _ in range(3)]
        for name, right in zip("abc", (0.8, 0.78, 0.7), strict=True)
    }

    def widths(looks: Looks | None) -> list[float]:
        found = compare_methods(runs, "accuracy", labels=2, looks=looks)
        return [pair["high"] - pair["low"] for pair in found.plain["pairs"]]

    ratios = np.array(widths(Looks(2, 8))) / widths(None)
    assert 1.03 < ratios[0] < 1.4
    assert ratios == pytest.approx(np.full(3, ratios[0]))
    assert widths(Looks(3, 3)) == widths(None)


def difference(size: float, seeds: int, spread: float, shared: float) -> Difference:
    side = MethodVariance(seeds, spread, 0.0)
    return Difference(size, np.zeros(1), side, side, 1000, shared)


def test_predictive_power_depends_on_the_variance_of_seeds() -> None:
    threshold = Threshold(different=2.5, equivalent=2.2)

    def found(size: float, **changes: float) -> float:
        given = {"seeds": 2, "spread": 4e-4, "shared": 1e-6, **changes}
        return chance(difference(size, **given), 0.01, threshold, 8)  # type: ignore[arg-type]

    assert found(0.05) > 0.9
    assert found(0.0) < 0.3
    assert found(0.0) < found(0.02) < found(0.03) < found(0.05)
    assert found(0.02, spread=1e-9, shared=4e-4) < 0.01  # limited by the rows
    assert found(0.0, spread=4e-6) > 0.9  # will be equivalent


def test_further_seeds_of_the_best_and_open_methods() -> None:
    def pair(answer: str, probability: float = 0.5, scope: str = "methods") -> dict[str, Any]:
        return {"answer": answer, "chance": probability, "scope": scope}

    compared = {
        "worse": pair("worse"),
        "out": pair("not_resolved"),
        "alike": pair("equivalent"),
        "open": pair("not_resolved"),
        "hopeless": pair("not_resolved", 0.01),
    }
    assert worth_another_seed("best", compared, ["worse", "out"]) == ["best", "open"]
    assert worth_another_seed("best", compared, ["worse", "out", "open"]) == []
    single = {**compared, "single": pair("not_resolved", 0.0, "models")}
    assert worth_another_seed("best", single, ["worse", "out", "open"]) == ["best", "single"]
    assert worth_another_seed("best", {"open": {"answer": "not_resolved"}}, []) == []


@pytest.mark.parametrize(
    ("undecided", "open_still", "counts", "said"),
    [
        ([], [], (4, 4, 2), "4 for full and lora, 2 for head. 11 of at most 25 runs; stopped"),
        ([], ["lora"], (4, 4, 2), "further seeds were unlikely to settle the rest"),
        (["full", "lora"], ["lora"], (8, 8, 2), "19 of at most 25 runs; the recommendation is not"),
        (["full", "lora"], ["lora"], (4, 4, 2), "the study has not finished"),
        ([], [], (2, 2, 2), "Seeds: 2 for each method. 7 of at most 25 runs; stopped because"),
    ],
)
def test_study_reports_saved_runs_and_stop_reason(
    undecided: list[str], open_still: list[str], counts: tuple[int, ...], said: str
) -> None:
    study = parse_study({"model": "m", "data": {"train": "t.csv"}, "seeds": "2:8"})
    names = ("full", "lora", "head")
    rows = [
        {"name": name, "family": "full", "seeds": list(range(n))}
        for name, n in zip(names, counts, strict=True)
    ]
    rows.append({"name": "tfidf", "family": "classical", "seeds": [0]})
    rows.append({"name": "a-language-model", "family": FAMILY, "seeds": [0]})
    found = {"name": "full", "undecided": undecided, "open": open_still}
    assert said in seeds_line(seeds_used(study, rows, found))
    limited = replace(study, max_study_seconds=60.0)
    timed = seeds_line(seeds_used(limited, rows, found))
    assert ("stopped at the time limit" in timed) == ("not finished" in said)
    for nothing in (None, {**found, "name": None}):
        assert "no two methods could be compared" in seeds_line(seeds_used(study, rows, nothing))


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        for name in ("false_alarms", "adaptive_seeds"):
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            assert spec
            assert spec.loader
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_adaptive_studies_need_fewer_runs(simulation: ModuleType) -> None:
    """A small version of benchmarks/adaptive_seeds.py, whose figures are in docs/verdict.md."""
    mixed = simulation.study_of("alike", simulation.SIX, studies=12)
    adaptive, fixed = mixed["2:8"], mixed["5"]
    assert adaptive["runs"] <= 0.75 * fixed["runs"]
    assert adaptive["resolved"] >= fixed["resolved"] - 0.25
    assert adaptive["false"] <= 0.17
    same = simulation.study_of("alike", (0.0,) * 6, studies=12)["2:8"]
    assert same["false"] <= 0.17
    assert Counter(same.keys()) == Counter(adaptive.keys())
