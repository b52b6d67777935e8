from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.error_analysis.labels import labels
from tuneoff.error_analysis.overlap import overlap

TRUE = ["a", "a", "a", "b", "b", "b", "c", "c"]
FULL = ["a", "a", "b", "b", "b", "a", "c", "a"]
LORA = ["a", "b", "b", "b", "c", "b", "c", "a"]


def table(predicted: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"split": "test", "row": range(8), "label": TRUE, "prediction": predicted})


@pytest.fixture
def two() -> Any:
    from tuneoff.error_analysis import collect

    return collect({"full": [table(FULL)], "lora": [table(LORA)]}, ["a", "b", "c"])


def test_overlap_example(two: Any) -> None:
    (pair,) = overlap(two).pairs
    assert (pair.first, pair.second) == ("full", "lora")
    # both correct: rows 0, 3, 6; only full: 1, 4; only lora: 5; both wrong: 2, 7
    assert [pair.both_right, pair.first_only, pair.second_only, pair.both_wrong] == [
        3 / 8, 2 / 8, 1 / 8, 2 / 8
    ]  # fmt: skip
    assert pair.both_wrong_by_chance == 3 / 8 * 4 / 8
    assert pair.same_wrong_label == 1
    first = pair.disagreements[0]
    assert (first.first, first.second, first.rows) == ("a", "b", 2)


def test_consistency_is_cohens_kappa_of_correctness(two: Any) -> None:
    from sklearn.metrics import cohen_kappa_score

    (pair,) = overlap(two).pairs
    true = np.array(TRUE)
    assert pair.consistency == pytest.approx(
        cohen_kappa_score(np.array(FULL) == true, np.array(LORA) == true)
    )


def test_common_errors_and_oracle(two: Any) -> None:
    found = overlap(two)
    assert (found.all_right, found.all_wrong) == (3, 2)
    assert (found.best, found.best_accuracy, found.oracle_accuracy) == ("full", 5 / 8, 6 / 8)


def test_seeds_of_a_method_are_compared(toy: Any) -> None:
    rows = toy.rows()
    full = [toy.predictions(rows, 0.8, seed) for seed in range(3)]
    found = overlap(toy.evidence(rows, full=full, lora=full[:1]))
    own = next(p for p in found.pairs if p.first == p.second)
    assert own.first == "full"
    assert own.consistency == pytest.approx(
        0, abs=0.06
    )  # the errors of these seeds are independent
    assert own.both_wrong == pytest.approx(own.both_wrong_by_chance, abs=0.01)
    between = next(p for p in found.pairs if p.first != p.second)
    # lora equals one of the three seeds: the same errors in one of three pairs
    assert between.consistency == pytest.approx(1 / 3, abs=0.06)


def test_baseline_is_not_part_of_common_errors(toy: Any) -> None:
    rows = toy.rows(test=500)
    plain = toy.predictions(rows)
    test = plain[plain["split"] == "test"]
    wrong = (test["label"] != test["prediction"]).sum()
    found = overlap(toy.evidence(rows, full=[plain], baseline=[toy.predictions(rows, 0.3, 1)]))
    assert found.contenders == ["full"]
    assert found.all_wrong == wrong
    assert found.oracle_accuracy == found.best_accuracy


def test_consistency_of_perfect_methods_is_undefined() -> None:
    from tuneoff.error_analysis import collect

    found = overlap(collect({"x": [table(TRUE)], "y": [table(TRUE)]}, ["a", "b", "c"]))
    assert found.pairs[0].consistency is None
    assert found.pairs[0].disagreements == []


def test_errors_by_true_and_by_predicted_label() -> None:
    from tuneoff.error_analysis import collect

    found = labels(collect({"full": [table(FULL), table(LORA)]}, ["a", "b", "c"]))["full"]
    assert [(x.label, x.rows) for x in found] == [("a", 3), ("b", 3), ("c", 2)]
    assert [x.missed for x in found] == [1.5, 1.0, 1.0]
    assert [x.mistaken for x in found] == [1.5, 1.5, 0.5]
