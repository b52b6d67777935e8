from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuneoff.error_analysis.slices import Slice, slices


def places(rows: Any, kind: str) -> list[int]:
    test = rows[rows["split"] == "test"]
    chosen = {
        "group": test["group"] == "g3",
        "label": test["label"] == "neutral",
        "length": test["text"].str.len() > test["text"].str.len().quantile(0.8),
    }[kind]
    numbers: list[int] = test["row"][chosen].tolist()
    return numbers


@pytest.mark.parametrize(
    ("kind", "name"), [("group", "g3"), ("label", "neutral"), ("length", "characters")]
)
def test_planted_slice_is_first(toy: Any, kind: str, name: str) -> None:
    rows = toy.rows()
    plain = toy.predictions(rows)
    planted = toy.worsened(plain, places(rows, kind), 0.2)
    found = slices(toy.evidence(rows, full=[plain], lora=[planted]))
    first = found.methods["lora"][0]
    assert first.kind == kind
    assert name in first.name
    assert first.significant
    assert first.rate > first.rest
    assert first.low <= first.rate <= first.high
    assert not any(s.significant for s in found.methods["full"])


def test_slice_of_rare_words_is_found(toy: Any) -> None:
    rows = toy.rows()
    train = rows["split"] == "train"
    test = rows.index[rows["split"] == "test"]
    strange = test[::4]
    rows.loc[strange, "text"] = [
        f"{t} odd{i} strange{i}" for i, t in enumerate(rows["text"][strange])
    ]
    assert not rows["text"][train].str.contains("odd").any()
    table = toy.worsened(toy.predictions(rows), rows["row"][strange].tolist(), 0.3)
    first = slices(toy.evidence(rows, full=[table])).methods["full"][0]
    assert first.significant
    assert first.kind == "rare words"


def test_worse_slice_comes_first_in_a_tie(toy: Any) -> None:
    """With two labels, both slices have the same p-value."""
    rows = toy.rows()
    rows["label"] = ["entailment" if x == "neutral" else x for x in rows["label"]]
    rows = rows.drop(columns=["group", "text"])
    chosen = rows["row"][(rows["split"] == "test") & (rows["label"] == "entailment")]
    table = toy.worsened(toy.predictions(rows), chosen.tolist(), 0.2)
    first, second = slices(toy.evidence(None, full=[table])).methods["full"][:2]
    assert (first.name, second.name) == ("entailment", "contradiction")
    assert first.q == pytest.approx(second.q)
    assert first.rate == pytest.approx(second.rest)


def test_every_row_is_in_one_slice_of_each_kind(toy: Any) -> None:
    rows = toy.rows()
    found = slices(toy.evidence(rows, full=[toy.predictions(rows)])).methods["full"]
    for kind in ("length", "label", "rare words", "group"):
        assert sum(s.rows for s in found if s.kind == kind) == 2500, kind


def test_shuffled_errors_are_rarely_significant(toy: Any) -> None:
    rows = toy.rows()
    alarms = 0
    for seed in range(40):
        table = toy.predictions(rows, 0.75, seed)
        found = slices(toy.evidence(rows, full=[table])).methods["full"]
        alarms += any(s.significant for s in found)
    assert alarms <= 5  # at most 2 expected; more than 5 in one of 70 cases


def test_small_groups_are_not_analysed(toy: Any) -> None:
    rows = toy.rows(test=300)
    rows["group"] = [f"g{i // 19}" for i in range(len(rows))]
    found = slices(toy.evidence(rows, full=[toy.predictions(rows)])).methods["full"]
    assert {s.kind for s in found} == {"length", "label", "rare words"}


def test_slices_take_groups_into_account(toy: Any) -> None:
    """Documents of 25 rows with a common outcome do not make any length significant."""
    rows = toy.rows()
    test = rows["split"] == "test"
    documents = np.arange(test.sum()) // 25
    random = np.random.default_rng(2)
    bad, long = random.random(100) < 0.2, random.integers(1, 5, 100)
    rows.loc[test, "text"] = [" ".join(["word"] * int(9 * long[d])) for d in documents]
    plain = toy.predictions(rows)
    wrong = np.zeros(len(plain), bool)
    wrong[(plain["split"] == "test").to_numpy()] = bad[documents]
    table = toy.answered(plain, wrong)

    def lengths(named: bool) -> list[Slice]:
        groups = [f"d{d}" for d in documents] if named else [""] * len(documents)
        rows.loc[test, "group"] = groups
        found = slices(toy.evidence(rows, full=[table])).methods["full"]
        return [part for part in found if part.kind == "length"]

    assert any(part.significant for part in lengths(named=False))
    assert not any(part.significant for part in lengths(named=True))
    width = {named: max(p.high - p.low for p in lengths(named)) for named in (True, False)}
    assert width[True] > 3 * width[False]
