"""Pairwise comparison: hand-computed examples, known tests, and simulated studies."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tuneoff.comparison import simultaneous
from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.mcnemar import mcnemar
from tuneoff.comparison.pairwise import compare_methods, pair_of, pairwise
from tuneoff.comparison.resolution import Threshold, both_needed, needed, rows_needed, seeds_needed
from tuneoff.comparison.seed_variance import SeedVariance
from tuneoff.comparison.simultaneous import adjusted_different, holm, step_down, with_best
from tuneoff.comparison.statistics import Difference, MethodVariance, answer

FIXED = MethodVariance(1, 0.0, 0.0)
"""MethodVariance with one model, or a method that is the same with every seed."""
ALONE = Threshold(1.96, 1.645)
"""Threshold for a single pair."""


def difference_of(
    difference: float,
    first: MethodVariance,
    second: MethodVariance,
    rows: int,
    shared: float,
    size: int = 100_000,
) -> Difference:
    """Return a difference with a normal error."""
    errors = np.random.default_rng(0).normal(size=size)
    found = Difference(difference, errors, first, second, rows, shared)
    errors *= found.standard_error
    return found


def run(correct: Sequence[bool] | np.ndarray, truth: np.ndarray | None = None) -> RunPredictions:
    """Return a run with two labels; wrong rows have the other one."""
    right = np.asarray(correct, bool)
    labels = np.arange(len(right)) % 2 if truth is None else truth
    predictions = np.where(right, labels, 1 - labels)
    return RunPredictions(np.arange(len(right)), labels, predictions, np.ones(len(right)))


def rows(both: int, only_first: int, only_second: int, neither: int) -> list[RunPredictions]:
    """Return two models that agree on this number of rows."""
    counts = (both, only_first, only_second, neither)
    first = np.repeat([True, True, False, False], counts)
    second = np.repeat([True, False, True, False], counts)
    return [run(first), run(second)]


def compared(first: list[RunPredictions], second: list[RunPredictions], **kw: Any) -> Any:
    found = pairwise({"one": first, "two": second}, kw.pop("metric", "accuracy"), labels=2, **kw)
    (pair,) = found["pairs"]
    return pair


def test_single_seed_is_the_test_of_paired_proportions() -> None:
    """30 of 1,000 rows against 60: Wald's variance of paired proportions, plus 2 rows."""
    one, two = rows(800, 60, 30, 110)
    pair = compared([one], [two], draws=20_000)
    variance = ((60 + 30) / 1000 - 0.03**2) / 1000 + 2 / 1000**2
    assert pair["difference"] == pytest.approx(0.03)
    assert pair["standard_error"] == pytest.approx(np.sqrt(variance), rel=0.02)
    half = 1.9623 * pair["standard_error"]  # Student's t with 999 degrees of freedom
    assert (pair["low"], pair["high"]) == pytest.approx((0.03 - half, 0.03 + half), rel=0.03)
    assert pair["scope"] == "models"
    assert pair["answer"] == "better"
    assert compared([two], [one])["answer"] == "worse"


@pytest.mark.parametrize("lost", [4, 5, 6])
def test_few_disagreements_agree_with_the_exact_test(lost: int) -> None:
    pair = compared(*[[r] for r in rows(150, lost, 0, 50)], draws=20_000)
    assert pair["p"] == pytest.approx(pair["mcnemar"]["p"], rel=0.25)
    assert (pair["answer"] == "better") == (pair["mcnemar"]["p"] < 0.05)


def test_p_and_interval_agree_on_zero() -> None:
    side = MethodVariance(3, 2e-4, 1e-4)
    for size in (0.01, 0.02, 0.03, 0.04, 0.05):
        found = difference_of(size, side, MethodVariance(5, 1e-4, 0.0), 1000, 5e-5)
        assert (found.p_different < 0.05) == (found.interval[0] > 0)
        assert found.interval == pytest.approx(
            (size - 1.96 * found.standard_error, size + 1.96 * found.standard_error), rel=0.05
        )


def test_equivalence_is_two_one_sided_tests() -> None:
    """Standard error 0.002, difference 0.004, margin 0.01: 3 standard errors."""
    found = difference_of(0.004, FIXED, FIXED, 10_000, 4e-6)
    assert found.p_equivalent(0.01) == pytest.approx(0.00135, rel=0.2)
    assert found.p_equivalent(0.004) == pytest.approx(0.5, abs=0.01)
    assert found.p_equivalent(0.0) > 0.9
    turned = difference_of(-0.004, FIXED, FIXED, 10_000, 4e-6)
    assert turned.p_equivalent(0.01) == pytest.approx(0.00135, rel=0.2)


# Variance between seeds.


def drawn(sample: Sequence[float], seeds: int, noise: float = 1.0) -> np.ndarray:
    values = np.array(sample, float)
    counts = np.full(len(values), seeds)
    random = np.random.default_rng(0)
    found = SeedVariance(values, counts, np.full(len(values), noise))
    return found.draw_added(20_000, random)


def test_similar_methods_share_their_variance() -> None:
    """The scores of one method are equal by chance, as the other methods show."""
    alone = np.median(drawn([0.0], 2))
    among = np.median(drawn([0.0, 9.0, 10.0, 8.0, 12.0, 11.0], 2), 0)
    assert among[0] > 3 * alone
    assert among[1:] == pytest.approx(np.full(5, 9.0), rel=0.5)


def test_many_seeds_use_each_methods_own_variance() -> None:
    found = np.median(drawn([2.0, 5.0, 17.0, 101.0], 200), 0)
    assert found == pytest.approx([1.0, 4.0, 16.0, 100.0], rel=0.25)


def test_outlier_does_not_raise_the_variance_of_others() -> None:
    alike = [9.0, 10.0, 8.0, 12.0, 11.0]
    before = np.median(drawn(alike, 3), 0)
    after = np.median(drawn([*alike, 2000.0], 3), 0)
    assert after[:5] == pytest.approx(before, rel=0.4)  # a pooled variance would be 340
    assert after[5] > 700


def test_variance_of_single_rows_is_not_moderated() -> None:
    random = np.random.default_rng(0)
    sample, noise = np.array([4.0, 4.0, 0.0, 9.0]), np.array([1.0, 1.0, 0.0, 1.0])
    seeds = np.array([3, 3, 3, 1])
    known = SeedVariance(sample, seeds, noise)
    found = known.draw_added(5000, random)
    assert not found[:, 2].any()  # the same predictions with every seed
    assert not found[:, 3].any()  # one run has no variance between seeds
    random = np.random.default_rng(0)
    pair = SeedVariance(sample[:2], seeds[:2], noise[:2]).draw_added(5000, random)
    np.testing.assert_array_equal(found[:, :2], pair)
    # the exact interval of the mean equals that of the draws
    error = np.sqrt((1 + pair[:, 0]) / 3) * random.normal(size=5000)
    assert known.half_widths()[0] == pytest.approx(np.quantile(np.abs(error), 0.95), rel=0.06)
    assert known.half_widths()[2:].tolist() == [0, 0]


def test_two_seeds_of_six_methods_have_usable_intervals() -> None:
    """One degree of freedom would give 12.7 standard errors; together there are six."""
    sample = np.array([1.0, 0.6, 1.7, 0.9, 1.2, 0.8]) * 1e-4
    halves = SeedVariance(sample, np.full(6, 2)).half_widths()
    errors = np.sqrt(sample / 2)
    assert (halves > 1.5 * errors).all()
    assert (halves < 5 * errors).all()
    assert SeedVariance(np.array([0.0, 1e-4]), np.full(2, 3)).half_widths()[0] == 0
    # a single method has no other variances
    assert SeedVariance(sample[:1], np.array([2])).half_widths()[0] > 7 * errors[0]


def test_equal_scores_on_different_rows_have_variance() -> None:
    """Both seeds score 0.9 on different rows; another seed would not score exactly 0.9."""
    random = np.random.default_rng(0)
    order = [random.permutation(1000) for _ in range(2)]
    seeds = [run(o < 900) for o in order]
    pair = compared(seeds, [run(np.ones(1000))] * 2)
    assert pair["from_seeds"] > 0.005


def test_identical_seeds_add_no_variance() -> None:
    one, two = rows(800, 60, 30, 110)
    pair = compared([one] * 3, [two] * 3)
    alone = compared([one], [two])
    assert pair["from_seeds"] == pytest.approx(0, abs=1e-9)
    assert pair["standard_error"] == pytest.approx(alone["standard_error"], rel=1e-6)
    assert (pair["scope"], alone["scope"]) == ("methods", "models")
    # a deterministic method is known with one run
    assert compared([one] * 3, [two], deterministic=["two"])["scope"] == "methods"


def test_agreement_on_few_rows_is_not_certain() -> None:
    few, many = run(np.ones(30)), run(np.ones(3000))
    assert compared([few], [few])["answer"] == "not_resolved"
    assert compared([many], [many])["answer"] == "equivalent"


def test_lower_loss_is_better() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(500) % 2

    def sure(level: float) -> RunPredictions:
        of_true = np.clip(random.normal(level, 0.05, 500), 0.51, 0.99)
        return RunPredictions(np.arange(500), truth, truth, np.ones(500), of_true, of_true)

    found = pairwise({"a": [sure(0.9)], "b": [sure(0.7)]}, "log_loss", labels=2)
    assert found["pairs"][0]["difference"] < 0
    assert found["pairs"][0]["answer"] == "better"
    assert found["pairs"][0]["also"]["accuracy"]["answer"] == "equivalent"


# Corrections for all pairs.


def test_holm_by_hand() -> None:
    """Holm 1979: the smallest times 4, the next times 3, …, monotone, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_weak_difference_among_many_pairs_is_not_significant() -> None:
    one, two = rows(800, 60, 30, 110)
    assert compared([one], [two])["answer"] == "better"
    others = {f"m{i}": [rows(800, 20 + i, 20, 160 - i)[0]] for i in range(10)}
    found = pairwise({"one": [one], "two": [two], **others}, "accuracy", labels=2)
    assert len(found["pairs"]) == 66
    pair = pair_of(found, "one", "two")
    assert pair is not None
    assert pair["p"] < 0.01 < 0.02 < pair["p_adjusted"]


def test_step_down_by_hand() -> None:
    """Romano and Wolf 2005: the largest of all, then the largest of the remaining ones."""
    errors = np.array([[0.5, 3.0], [1.5, 0.0], [0.0, 1.0], [2.5, 0.5]])
    # 2.0: the larger of both reaches it in two of four draws; 1.0 alone: in two draws
    assert step_down(np.array([2.0, 1.0]), errors) == pytest.approx([3 / 5, 3 / 5])
    assert step_down(np.array([9.0, 1.0]), errors) == pytest.approx([1 / 5, 3 / 5])
    assert step_down(np.array([1.0, 9.0]), errors) == pytest.approx([3 / 5, 1 / 5])


def test_step_down_gains_from_the_correlation_of_pairs() -> None:
    """Nine strongly correlated pairs cost hardly more than one; Holm multiplies."""
    random = np.random.default_rng(0)
    common = random.normal(size=20_000)
    found = [
        Difference(0.023, 0.01 * (common + 0.1 * random.normal(size=20_000)), FIXED, FIXED, 9, 1e-4)
        for _ in range(9)
    ]
    joint, apart = (adjusted_different(found, joint=joint) for joint in (True, False))
    assert max(joint) < 0.05 < 0.15 < min(apart)


def independent(scores: Sequence[float], error: float) -> dict[tuple[str, str], Difference]:
    random = np.random.default_rng(0)
    errors = error * random.normal(size=(200_000, len(scores)))
    return {
        (f"m{i}", f"m{j}"): Difference(
            scores[i] - scores[j], errors[:, i] - errors[:, j], FIXED, FIXED, 100, 2 * error**2
        )
        for i in range(len(scores))
        for j in range(i + 1, len(scores))
    }


def test_bounds_with_the_best_equal_hsu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six methods, equal known variances: Dunnett's one-sided 2.234 for five, from his table."""
    monkeypatch.setattr(simultaneous, "SHARE", 1.0)  # the table is for 5 %
    scores, error = [0.90, 0.89, 0.85, 0.85, 0.84, 0.80], 0.01
    names = [f"m{i}" for i in range(6)]
    reach = 2.234 * error * np.sqrt(2)
    found = with_best(independent(scores, error), names, higher_is_better=True, joint=True)
    assert [name for name in names if found[name].ruled_out] == ["m2", "m3", "m4", "m5"]
    assert found["m0"].ahead == pytest.approx(0.01 + reach, rel=0.02)
    assert found["m0"].behind == pytest.approx(reach - 0.01, rel=0.03)
    assert found["m1"].ahead == pytest.approx(reach - 0.01, rel=0.03)
    assert found["m5"].behind == pytest.approx(0.10 + reach, rel=0.02)
    # without joint draws, Bonferroni's correction is used
    apart = with_best(independent(scores, error), names, higher_is_better=True, joint=False)
    assert 1 < apart["m0"].ahead / found["m0"].ahead < 1.1


def test_bounds_of_a_loss_are_reversed() -> None:
    scores, names = [0.30, 0.31, 0.50], ["m0", "m1", "m2"]
    turned = with_best(
        independent([-x for x in scores], 0.01), names, higher_is_better=True, joint=True
    )
    found = with_best(independent(scores, 0.01), names, higher_is_better=False, joint=True)
    for name in names:
        assert found[name].ahead == pytest.approx(turned[name].ahead, abs=5e-4)
        assert found[name].behind == pytest.approx(turned[name].behind, abs=5e-4)
    assert [found[name].ruled_out for name in names] == [False, False, True]


def test_clear_best_is_not_behind() -> None:
    found = with_best(
        independent([0.9, 0.5], 0.01), ["m0", "m1"], higher_is_better=True, joint=True
    )
    assert found["m0"].behind == 0
    assert found["m1"].ruled_out


def test_methods_at_chance_do_not_reduce_power() -> None:
    one, two = rows(800, 52, 30, 118)
    random = np.random.default_rng(0)
    guesses = {f"guess{i}": [run(random.random(1000) < 0.5)] for i in range(6)}
    methods = {"one": [one], "two": [two], **guesses}
    pairs = [
        pair_of(pairwise(methods, "accuracy", labels=2, guessing=names), "one", "two")
        for names in ((), tuple(guesses))
    ]
    without, apart = (pair["p_adjusted"] for pair in pairs if pair)
    assert apart == pytest.approx(compared([one], [two])["p_adjusted"], rel=0.2)
    assert without > 3 * apart


def test_different_rows_are_corrected_by_holm() -> None:
    one, two = rows(800, 60, 30, 110)
    parts = (two.rows, two.labels, two.predictions, two.weights)
    short = RunPredictions(*(part[:900] for part in parts))
    found = compare_methods({"one": [one], "two": [two], "short": [short]}, "accuracy", labels=2)
    assert not found.joint
    p = [pair["p"] for pair in found.plain["pairs"]]
    expected = [min(x / simultaneous.SHARE, 1) for x in holm(p)]
    assert [pair["p_adjusted"] for pair in found.plain["pairs"]] == pytest.approx(expected)
    assert set(found.with_best(["one", "two", "short"])) == {"one", "two", "short"}


def test_a_difference_smaller_than_the_margin_is_equivalence() -> None:
    found = difference_of(0.004, FIXED, FIXED, 100_000, 1e-6)
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


def test_mcnemar_exchanges_whole_groups() -> None:
    """Ten rows of a group count as one: 6 groups against 0 give 2 / 64, not 2 / 2^60."""
    first = np.array([[True] * 60 + [False] * 40])
    second = np.array([[False] * 60 + [False] * 40])
    groups = np.arange(100) // 10
    assert mcnemar(np.concatenate([first, second]), 1, groups).p == pytest.approx(2 / 64)
    assert mcnemar(np.concatenate([first, second]), 1).p < 1e-10


def test_mcnemar_of_groups_of_one_row_is_the_binomial_test() -> None:
    one, two = rows(50, 9, 3, 20)
    correct = np.stack([r.predictions == r.labels for r in (one, two)])
    alone = mcnemar(correct, 1, np.arange(82))
    assert alone.p == pytest.approx(mcnemar(correct, 1).p)


def test_mcnemar_of_groups_by_enumeration() -> None:
    """Differences of 3, 1, 1 and -2: of 16 sign vectors, those with a total of at least 3."""
    correct = np.zeros((2, 7), bool)
    groups = np.array([0, 0, 0, 1, 2, 3, 3])
    correct[0, :5] = True
    correct[1, 5:] = True
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    totals = np.array([3, 1, 1, 2]) @ signs
    assert mcnemar(correct, 1, groups).p == pytest.approx((np.abs(totals) >= 3).mean())


# Required seeds and rows.


def test_stated_seeds_are_sufficient() -> None:
    found = difference_of(
        0.02, MethodVariance(3, 3e-4, 1e-4), MethodVariance(3, 3e-4, 1e-4), 5000, 2e-6
    )
    seeds = seeds_needed(found, 0.01, ALONE)
    # by hand: (1.96 + 0.84)^2 (2e-6 + 6e-4 / n) = 0.02^2 at n = 12.2
    assert seeds == 13
    assert (seeds_needed(found, 0.01, Threshold(3.5, 3.2)) or 0) > seeds  # more pairs need more


def test_no_number_if_none_is_sufficient() -> None:
    rows_alone = difference_of(
        0.005, MethodVariance(3, 1e-6, 0.0), MethodVariance(3, 1e-6, 0.0), 200, 5e-4
    )
    assert seeds_needed(rows_alone, 0.01, ALONE) is None
    assert (rows_needed(rows_alone, 0.01, ALONE) or 0) > 200
    seeds_alone = difference_of(
        0.012, MethodVariance(3, 4e-4, 0.0), MethodVariance(3, 4e-4, 0.0), 50_000, 1e-8
    )
    assert rows_needed(seeds_alone, 0.01, ALONE) is None
    assert (seeds_needed(seeds_alone, 0.01, ALONE) or 0) > 3
    unknown = difference_of(0.01, FIXED, FIXED, 200, 5e-4)
    assert seeds_needed(unknown, 0.01, ALONE) is None
    both = difference_of(
        0.012, MethodVariance(3, 2e-4, 0.0), MethodVariance(3, 2e-4, 0.0), 300, 2e-4
    )
    assert seeds_needed(both, 0.01, ALONE) is rows_needed(both, 0.01, ALONE) is None
    together = both_needed(both, 0.01, ALONE)
    assert together
    assert together[0] > 3
    assert together[1] > 300


def test_stated_rows_are_sufficient() -> None:
    found = difference_of(0.02, FIXED, FIXED, 400, 4e-4)
    # by hand: (1.96 + 0.84) standard errors of 0.02 * sqrt(400 / n) make 0.02 at n = 7.85 * 400
    assert rows_needed(found, 0.01, ALONE) == pytest.approx(3140, rel=0.01)


def test_seeds_of_the_less_certain_method() -> None:
    found = difference_of(
        0.03, MethodVariance(3, 1e-5, 1e-5), MethodVariance(3, 9e-4, 1e-4), 5000, 2e-6
    )
    asked = needed(found, 0.01, ALONE)
    assert asked["of"] == "second"
    assert asked["seeds"] > 3
    alike = difference_of(
        0.03, MethodVariance(3, 9e-4, 1e-4), MethodVariance(3, 9e-4, 1e-4), 5000, 2e-6
    )
    assert needed(alike, 0.01, ALONE)["of"] == "both"


# Methods that cannot be compared.


def test_methods_are_compared_on_common_rows() -> None:
    one, two = rows(800, 60, 30, 110)
    short = RunPredictions(
        two.rows[:900], two.labels[:900], two.predictions[:900], two.weights[:900]
    )
    found = pairwise({"one": [one], "two": [two], "short": [short]}, "accuracy", labels=2)
    assert [pair["rows"] for pair in found["pairs"]] == [1000, 900, 900]
    same = pair_of(found, "two", "short")
    assert same is not None
    assert same["difference"] == 0


def test_skipped_pairs_have_a_reason() -> None:
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
        "turned": "they have different true labels for the same test row",
        "tiny": "they have 4 test rows in common; a comparison needs 10",
        "lost": "no run of lost has stored predictions",
        "other": "they were run on different data",
    }
    assert [(p["first"], p["second"]) for p in found["pairs"]] == [("one", "two")]


def test_no_log_loss_without_probabilities() -> None:
    one, two = rows(800, 60, 30, 110)
    found = pairwise({"one": [one], "two": [two]}, "log_loss", labels=2)
    assert found["pairs"] == []
    assert "log_loss needs probabilities" in found["skipped"][0]["reason"]


def test_reversed_pair() -> None:
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


def test_verdict_is_deterministic() -> None:
    one, two = rows(800, 60, 30, 110)
    first, second = (pairwise({"a": [one], "b": [two]}, "macro_f1", labels=2) for _ in range(2))
    assert first == second


# Simulated studies.


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"
    spec = importlib.util.spec_from_file_location("false_alarms", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # needed by dataclasses
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    sys.path.remove(str(path.parent))
    return module


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["alike", "spread"])
@pytest.mark.parametrize("seeds", [2, 5])
def test_false_claims_for_six_equal_methods_are_rare(
    simulation: ModuleType, spread: float, seeds: int
) -> None:
    """A small version of benchmarks/false_alarms.py, whose figures are in docs/verdict.md."""
    world = simulation.World(simulation.SNLI)
    sizes = {"studies": 40, "rows": 400, "seeds": seeds, "draws": 300, "former": False}
    found = simulation.simulate(world, losses=[0.0] * 6, spread=spread, **sizes)
    assert found["false"] <= 0.125  # 5 of 40; at a rate of 5 %, 1.4 % of samples have more
    assert found["covered"] >= 0.9
    assert found["bounds"] == 1


def test_two_seeds_of_six_methods_find_ten_points(simulation: ModuleType) -> None:
    world = simulation.World(simulation.SNLI)
    found = simulation.simulate(world, losses=simulation.SIX, studies=20, seeds=2, draws=300)
    assert found["found_10"] >= 0.85
    assert found["false"] <= 0.15
    assert found["bounds"] >= 0.85
    assert found["former_found_10"] <= 0.5
    assert found["ruled_out_3"] >= 0.15


@pytest.mark.parametrize("changes", [{}, {"method": 0.1}], ids=["same", "own rows"])
def test_false_claims_for_two_equal_methods_are_rare(
    simulation: ModuleType, changes: dict[str, float]
) -> None:
    world = simulation.World(simulation.SNLI, **changes)
    found = simulation.simulate(world, studies=40, rows=400, seeds=3, draws=300)
    assert found["false"] <= 0.125
    assert found["covered"] >= 0.9


def test_named_groups_keep_the_error_rate(
    simulation: ModuleType,
) -> None:
    world = simulation.World(simulation.SNLI, method=0.2, group=0.7)
    sizes = {"studies": 40, "rows": 800, "seeds": 5, "draws": 300, "group_rows": 10}
    assert simulation.simulate(world, **sizes)["false"] <= 0.125
    assert simulation.simulate(world, **sizes, named=False)["false"] >= 0.15


def test_simulated_errors_follow_the_confusion_matrix(simulation: ModuleType) -> None:
    world = simulation.World(simulation.SNLI, shift=0.0)
    found = simulation.answers(
        np.random.default_rng(0), (world, world.with_loss(0.03)), rows=40_000, seeds=1
    )
    (first,), (second,) = found["m0"], found["m1"]
    assert (first.predictions == first.labels).mean() == pytest.approx(7453 / 9824, abs=0.01)
    matrix = np.zeros((3, 3))
    np.add.at(matrix, (first.labels, first.predictions), 1)
    expected = np.array(simulation.SNLI) / 9824
    np.testing.assert_allclose(matrix / 40_000, expected, atol=0.01)
    lost = (first.predictions == first.labels).mean() - (second.predictions == second.labels).mean()
    assert lost == pytest.approx(0.03, abs=0.006)
