"""The four answers: against hand-made numbers, known tests, and studies whose truth is known."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tuneoff.compare.pairwise import pair_of, pairwise
from tuneoff.compare.panel import RunPredictions
from tuneoff.compare.statistics import (
    Difference,
    Side,
    answer,
    both_needed,
    holm,
    mcnemar,
    rows_needed,
    seeds_needed,
)

FIXED = Side(1, 0.0, 0.0)
"""One model, or a method that is the same with every seed."""


def run(correct: Sequence[bool] | np.ndarray, truth: np.ndarray | None = None) -> RunPredictions:
    """Two labels; wrong rows have the other one."""
    right = np.asarray(correct, bool)
    labels = np.arange(len(right)) % 2 if truth is None else truth
    predictions = np.where(right, labels, 1 - labels)
    return RunPredictions(np.arange(len(right)), labels, predictions, np.ones(len(right)))


def rows(both: int, only_first: int, only_second: int, neither: int) -> list[RunPredictions]:
    """Two models that agree on so many rows."""
    counts = (both, only_first, only_second, neither)
    first = np.repeat([True, True, False, False], counts)
    second = np.repeat([True, False, True, False], counts)
    return [run(first), run(second)]


def compared(first: list[RunPredictions], second: list[RunPredictions], **kw: Any) -> Any:
    found = pairwise({"one": first, "two": second}, kw.pop("metric", "accuracy"), labels=2, **kw)
    (pair,) = found["pairs"]
    return pair


# -- a difference --------------------------------------------------------------------------------


def test_without_seeds_it_is_the_test_of_paired_shares() -> None:
    """30 of 1,000 rows against 60: Wald's variance of paired shares, and 2 rows more."""
    one, two = rows(800, 60, 30, 110)
    pair = compared([one], [two], draws=20_000)
    variance = ((60 + 30) / 1000 - 0.03**2) / 1000 + 2 / 1000**2
    assert pair["difference"] == pytest.approx(0.03)
    assert pair["standard_error"] == pytest.approx(np.sqrt(variance), rel=0.02)
    half = 1.9623 * pair["standard_error"]  # Student's t with 999 degrees of freedom
    assert (pair["low"], pair["high"]) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-5)
    assert pair["scope"] == "models"
    assert pair["answer"] == "better"
    assert compared([two], [one])["answer"] == "worse"


@pytest.mark.parametrize("lost", [4, 5, 6])
def test_few_disagreements_are_judged_about_as_the_exact_test_does(lost: int) -> None:
    pair = compared(*[[r] for r in rows(150, lost, 0, 50)], draws=20_000)
    assert pair["p"] == pytest.approx(pair["mcnemar"]["p"], rel=0.25)
    assert (pair["answer"] == "better") == (pair["mcnemar"]["p"] < 0.05)


def test_without_rows_it_is_welchs_test() -> None:
    """Where rows are many and models agree on their order, only the seeds' scores count."""
    from scipy.stats import ttest_ind

    a, b = np.array([0.91, 0.93, 0.92]), np.array([0.88, 0.90, 0.85, 0.89])
    found = Difference(
        float(a.mean() - b.mean()),
        Side(3, a.var(ddof=1), 0.0),
        Side(4, b.var(ddof=1), 0.0),
        10_000,
        0.0,
    )
    expected = ttest_ind(a, b, equal_var=False)
    assert found.p_different == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high), rel=1e-6)


def test_p_and_interval_agree_on_zero() -> None:
    side = Side(3, 2e-4, 1e-4)
    for size in (0.01, 0.02, 0.03, 0.04, 0.05):
        found = Difference(size, side, Side(5, 1e-4, 0.0), 1000, 5e-5)
        assert (found.p_different < 0.05) == (found.interval[0] > 0)
        at_edge = Difference(found.reach(0.025), side, Side(5, 1e-4, 0.0), 1000, 5e-5)
        assert at_edge.p_different == pytest.approx(0.05, rel=1e-6)


def test_equivalence_is_two_one_sided_tests() -> None:
    """By hand: standard error 0.002, difference 0.004, margin 0.01: t = 3 with 9,999 degrees."""
    found = Difference(0.004, FIXED, FIXED, 10_000, 4e-6)
    assert found.p_equivalent(0.01) == pytest.approx(0.00135, rel=0.01)
    assert found.p_equivalent(0.004) == pytest.approx(0.5)
    assert found.p_equivalent(0.0) > 0.9


def test_seeds_that_agree_by_luck_count_as_their_rows_say() -> None:
    """Both seeds score 0.9, on different rows: another one would not score 0.9 exactly."""
    random = np.random.default_rng(0)
    order = [random.permutation(1000) for _ in range(2)]
    seeds = [run(o < 900) for o in order]
    pair = compared(seeds, [run(np.ones(1000))] * 2)
    assert pair["from_seeds"] > 0.005


def test_seeds_that_are_one_model_add_nothing() -> None:
    one, two = rows(800, 60, 30, 110)
    pair = compared([one] * 3, [two] * 3)
    alone = compared([one], [two])
    assert pair["from_seeds"] == pytest.approx(0, abs=1e-9)
    assert pair["standard_error"] == pytest.approx(alone["standard_error"], rel=1e-6)
    assert (pair["scope"], alone["scope"]) == ("methods", "models")
    # a method known to have but one model is as good as known with one run
    assert compared([one] * 3, [two], deterministic=["two"])["scope"] == "methods"


def test_models_that_agree_on_few_rows_are_not_equal_beyond_doubt() -> None:
    few, many = run(np.ones(30)), run(np.ones(3000))
    assert compared([few], [few])["answer"] == "not_resolved"
    assert compared([many], [many])["answer"] == "equivalent"


def test_a_loss_is_better_where_it_is_lower() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(500) % 2

    def sure(level: float) -> RunPredictions:
        of_true = np.clip(random.normal(level, 0.05, 500), 0.51, 0.99)
        return RunPredictions(np.arange(500), truth, truth, np.ones(500), of_true, of_true)

    found = pairwise({"a": [sure(0.9)], "b": [sure(0.7)]}, "log_loss", labels=2)
    assert found["pairs"][0]["difference"] < 0
    assert found["pairs"][0]["answer"] == "better"
    assert found["pairs"][0]["also"]["accuracy"]["answer"] == "equivalent"


# -- over all pairs ------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """Holm 1979: the smallest times 4, the next times 3, …, never falling, never above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_a_weak_finding_among_many_pairs_back() -> None:
    one, two = rows(800, 60, 30, 110)
    assert compared([one], [two])["answer"] == "better"
    others = {f"m{i}": [rows(800, 20 + i, 20, 160 - i)[0]] for i in range(10)}
    found = pairwise({"one": [one], "two": [two], **others}, "accuracy", labels=2)
    assert len(found["pairs"]) == 66
    pair = pair_of(found, "one", "two")
    assert pair is not None
    assert pair["p"] < 0.01 < 0.05 < pair["p_adjusted"]
    assert pair["answer"] == "not_resolved"


def test_a_difference_smaller_than_the_margin_is_equivalence() -> None:
    found = Difference(0.004, FIXED, FIXED, 100_000, 1e-6)
    p = found.p_different, found.p_equivalent(0.01)
    assert max(p) < 0.001
    assert answer(found, *p, higher_is_better=True) == "equivalent"
    assert answer(found, p[0], 1.0, higher_is_better=True) == "better"
    assert answer(found, p[0], 1.0, higher_is_better=False) == "worse"
    assert answer(found, 0.2, 0.2, higher_is_better=True) == "not_resolved"


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 5, 0.0625), (0, 6, 0.03125), (9, 3, 0.14599609375), (7, 7, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int, p: float) -> None:
    one, two = rows(50, only_first, only_second, 20)
    correct = np.stack([r.predictions == r.labels for r in (one, two)])
    found = mcnemar(correct, 1)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p == pytest.approx(p)


def test_mcnemar_over_seeds_is_twice_the_median() -> None:
    one, two = rows(800, 60, 30, 110)
    correct = np.stack([r.predictions == r.labels for r in (one, one, two, two)])
    single = mcnemar(correct[[0, 2]], 1).p
    assert mcnemar(correct, 2).p == pytest.approx(2 * single)


# -- what would do -------------------------------------------------------------------------------


def test_the_seeds_that_would_do_do() -> None:
    found = Difference(0.02, Side(3, 3e-4, 1e-4), Side(3, 3e-4, 1e-4), 5000, 2e-6)
    assert found.p_different > 0.05
    seeds = seeds_needed(found, 0.01, 1)
    assert seeds
    more = Difference(0.02, Side(seeds, 3e-4, 1e-4), Side(seeds, 3e-4, 1e-4), 5000, 2e-6)
    assert more.p_different < 0.05
    less = Difference(0.02, Side(seeds // 2, 3e-4, 1e-4), Side(seeds // 2, 3e-4, 1e-4), 5000, 2e-6)
    assert less.p_different > 0.005  # without the reserve
    assert (seeds_needed(found, 0.01, 20) or 0) > seeds  # more pairs ask for more


def test_no_number_is_named_where_none_would_do() -> None:
    rows_alone = Difference(0.005, Side(3, 1e-6, 0.0), Side(3, 1e-6, 0.0), 200, 5e-4)
    assert seeds_needed(rows_alone, 0.01, 1) is None
    assert (rows_needed(rows_alone, 0.01, 1) or 0) > 200
    seeds_alone = Difference(0.012, Side(3, 4e-4, 0.0), Side(3, 4e-4, 0.0), 50_000, 1e-8)
    assert rows_needed(seeds_alone, 0.01, 1) is None
    assert (seeds_needed(seeds_alone, 0.01, 1) or 0) > 3
    unknown = Difference(0.01, FIXED, FIXED, 200, 5e-4)
    assert seeds_needed(unknown, 0.01, 1) is None
    both = Difference(0.012, Side(3, 2e-4, 0.0), Side(3, 2e-4, 0.0), 300, 2e-4)
    assert seeds_needed(both, 0.01, 1) is rows_needed(both, 0.01, 1) is None
    needed = both_needed(both, 0.01, 1)
    assert needed
    assert needed[0] > 3
    assert needed[1] > 300


def test_the_rows_that_would_do_do() -> None:
    found = Difference(0.02, FIXED, FIXED, 400, 4e-4)
    needed = rows_needed(found, 0.01, 1)
    assert needed
    # by hand: (1.96 + 0.84) standard errors of 0.02 * sqrt(400 / n) make 0.02 at n = 7.85 * 400
    assert needed == pytest.approx(3140, rel=0.01)


# -- what cannot be compared ---------------------------------------------------------------------


def test_methods_meet_on_the_rows_they_share() -> None:
    one, two = rows(800, 60, 30, 110)
    short = RunPredictions(
        two.rows[:900], two.labels[:900], two.predictions[:900], two.weights[:900]
    )
    found = pairwise({"one": [one], "two": [two], "short": [short]}, "accuracy", labels=2)
    assert [pair["rows"] for pair in found["pairs"]] == [1000, 900, 900]
    same = pair_of(found, "two", "short")
    assert same is not None
    assert same["difference"] == 0


def test_what_cannot_be_compared_is_named() -> None:
    one, two = rows(800, 60, 30, 110)
    elsewhere = RunPredictions(one.rows + 5000, one.labels, one.predictions, one.weights)
    turned = RunPredictions(one.rows, 1 - one.labels, one.predictions, one.weights)
    tiny = RunPredictions(*(x[:4] for x in (one.rows, one.labels, one.predictions, one.weights)))
    methods = {"one": [one], "two": [two], "elsewhere": [elsewhere], "turned": [turned]}
    methods |= {"tiny": [tiny], "lost": [], "other": [one]}
    data = dict.fromkeys(methods, "f") | {"other": "g"}
    found = pairwise(methods, "accuracy", labels=2, data=data)
    reasons = {s["second"]: s["reason"] for s in found["skipped"] if s["first"] == "one"}
    assert reasons == {
        "elsewhere": "they have no test row in common",
        "turned": "they hold different true labels for the same test row",
        "tiny": "they have 4 test rows in common, too few to compare",
        "lost": "no run of lost has kept its predictions",
        "other": "they were run on different data",
    }
    assert [(p["first"], p["second"]) for p in found["pairs"]] == [("one", "two")]


def test_without_probabilities_there_is_no_log_loss() -> None:
    one, two = rows(800, 60, 30, 110)
    found = pairwise({"one": [one], "two": [two]}, "log_loss", labels=2)
    assert found["pairs"] == []
    assert "no probabilities" in found["skipped"][0]["reason"]


def test_a_pair_seen_from_the_other_side() -> None:
    one, two = rows(800, 60, 30, 110)
    found = pairwise({"one": [one], "two": [two]}, "accuracy", labels=2)
    pair, back = pair_of(found, "one", "two"), pair_of(found, "two", "one")
    assert pair
    assert back
    assert back["answer"] == "worse"
    assert (back["low"], back["high"]) == (-pair["high"], -pair["low"])
    assert back["mcnemar"]["only_first"] == pair["mcnemar"]["only_second"] == 30
    assert back["also"]["macro_f1"]["difference"] == -pair["also"]["macro_f1"]["difference"]
    assert pair_of(found, "one", "three") is None


def test_the_same_predictions_get_the_same_verdict() -> None:
    one, two = rows(800, 60, 30, 110)
    first, second = (pairwise({"a": [one], "b": [two]}, "macro_f1", labels=2) for _ in range(2))
    assert first == second


# -- studies whose truth is known ----------------------------------------------------------------


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"
    spec = importlib.util.spec_from_file_location("false_alarms", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("changes", [{}, {"method": 0.1}], ids=["same", "own rows"])
def test_methods_that_are_the_same_are_rarely_told_apart(
    simulation: ModuleType, changes: dict[str, float]
) -> None:
    """A small version of benchmarks/false_alarms.py, whose figures are in docs/verdict.md."""
    world = simulation.World(simulation.SNLI, **changes)
    found = simulation.simulate(world, studies=40, rows=400, seeds=3, draws=300)
    assert found["claims"] <= 0.075  # 3 of 40: at 5 % that or less is seen in 86 % of samples
    assert found["covered"] >= 0.9


def test_rows_in_groups_raise_no_false_alarms_if_the_study_names_the_groups(
    simulation: ModuleType,
) -> None:
    world = simulation.World(simulation.SNLI, method=0.2, group=0.7)
    sizes = {"studies": 40, "rows": 800, "seeds": 5, "draws": 300, "group_rows": 10}
    assert simulation.simulate(world, **sizes)["claims"] <= 0.075
    assert simulation.simulate(world, **sizes, told=False)["claims"] >= 0.15


def test_a_difference_of_six_points_is_found(simulation: ModuleType) -> None:
    """Rows and seeds are fewer than in the benchmark, so the difference is larger."""
    world = simulation.World(simulation.SNLI)
    found = simulation.simulate(world, planted=0.06, studies=20, rows=600, seeds=5, draws=300)
    assert found["better"] >= 0.8
    assert found["worse"] == 0


def test_simulated_answers_err_as_the_confusion_matrix_says(simulation: ModuleType) -> None:
    world = simulation.World(simulation.SNLI, shift=0.0)
    found = simulation.answers(
        np.random.default_rng(0), (world, world.with_loss(0.03)), rows=40_000, seeds=1
    )
    (first,), (second,) = found["first"], found["second"]
    assert (first.predictions == first.labels).mean() == pytest.approx(7453 / 9824, abs=0.01)
    matrix = np.zeros((3, 3))
    np.add.at(matrix, (first.labels, first.predictions), 1)
    expected = np.array(simulation.SNLI) / 9824
    np.testing.assert_allclose(matrix / 40_000, expected, atol=0.01)
    lost = (first.predictions == first.labels).mean() - (second.predictions == second.labels).mean()
    assert lost == pytest.approx(0.03, abs=0.006)
