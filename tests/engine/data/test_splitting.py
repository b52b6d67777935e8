"""Splits are stratified, keep duplicates together, and are deterministic for a seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneoff.engine.data.split import (
    allocate,
    components,
    hold_out,
    label_order,
    subsample,
    text_codes,
)
from tuneoff.exceptions import BadInput


def table(
    labels: list[str],
    texts: list[str] | None = None,
    groups: list[str] | None = None,
) -> pd.DataFrame:
    frame = pd.DataFrame({"label": pd.Series(labels, dtype="str")})
    frame["text"] = pd.Series(texts or [f"text {i}" for i in range(len(labels))], dtype="str")
    if groups is not None:
        frame["group"] = pd.Series(groups, dtype="str")
    return frame


def test_label_order() -> None:
    assert label_order(["10", "9", "-1", "9"]) == ["-1", "9", "10"]
    assert label_order(["b", "10", "9", "B"]) == ["10", "9", "B", "b"]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200), st.integers(0, 3))
def test_allocate_is_proportional(counts: list[int], total: int, least: int) -> None:
    array = np.array(counts, np.int64)
    shares = allocate(array, total, least=least)
    assert shares.sum() == min(total, sum(counts))
    assert (shares <= array).all()
    assert (shares >= 0).all()
    floor = np.minimum(array, least)
    if floor.sum() <= total:
        assert (shares >= floor).all()
    if least == 0 and sum(counts):
        quota = array * (min(total, sum(counts)) / sum(counts))
        assert (np.abs(shares - quota) < 1 + 1e-9).all()


def test_allocate_example() -> None:
    assert allocate(np.array([50, 30, 20]), 10).tolist() == [5, 3, 2]
    assert allocate(np.array([1000, 10, 1]), 100).tolist() == [99, 1, 0]
    assert allocate(np.array([1000, 10, 1]), 100, least=1).tolist() == [98, 1, 1]
    assert allocate(np.array([4] * 10), 4).tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_fraction_is_exact_for_each_label() -> None:
    frame = table(["a"] * 500 + ["b"] * 300 + ["c"] * 20)
    held = hold_out(frame, 0.1, seed=0, purpose="test")
    assert frame["label"][held].value_counts().to_dict() == {"a": 50, "b": 30, "c": 2}


def test_rows_depend_on_seed_and_purpose() -> None:
    frame = table(["a", "b"] * 100)
    first = hold_out(frame, 0.2, seed=3, purpose="test")
    assert (first == hold_out(frame, 0.2, seed=3, purpose="test")).all()
    assert (first != hold_out(frame, 0.2, seed=4, purpose="test")).any()
    assert (first != hold_out(frame, 0.2, seed=3, purpose="validation")).any()
    assert hold_out(frame, 0.2, seed=-1, purpose="test").sum() == 40


@settings(max_examples=60)
@given(st.data(), st.booleans(), st.floats(0.05, 0.6), st.integers(0, 5))
def test_duplicates_and_groups_stay_together(
    data: st.DataObject, grouped: bool, fraction: float, seed: int
) -> None:
    rows = data.draw(st.integers(4, 60))
    labels = data.draw(st.lists(st.sampled_from("ab"), min_size=rows, max_size=rows))
    texts = data.draw(
        st.lists(st.sampled_from([f"t{i}" for i in range(40)]), min_size=rows, max_size=rows)
    )
    groups = data.draw(
        st.lists(st.sampled_from(["", "", "g", "h", "i", "j"]), min_size=rows, max_size=rows)
    )
    frame = table(labels, texts, groups if grouped else None)
    try:
        held = hold_out(frame, fraction, seed=seed, purpose="test")
    except BadInput:
        return
    assert held.any()
    assert not held.all()
    out, rest = frame[held], frame[~held]
    assert not set(out["text"]) & set(rest["text"])
    assert set(rest["label"]) == set(labels)
    if grouped:
        assert not (set(out["group"]) - {""}) & (set(rest["group"]) - {""})


def test_chains_of_texts_and_groups_are_one_component() -> None:
    frame = table(list("aaaaaa"), ["x", "x", "y", "z", "z", "w"], ["1", "2", "2", "3", "", ""])
    numbers = components(frame)
    assert numbers[0] == numbers[1] == numbers[2]
    assert numbers[3] == numbers[4]
    assert len(set(numbers)) == 3


def test_pairs_are_duplicates_if_both_texts_are_equal() -> None:
    one = table(list("aaa"), ["x", "x", "y"])
    one["text_pair"] = pd.Series(["p", "q", "p"], dtype="str")
    two = table(list("aa"), ["x", "y"])
    two["text_pair"] = pd.Series(["q", "q"], dtype="str")
    first, second = text_codes(one, two)
    assert len(set(first)) == 3
    assert second[0] == first[1]
    assert second[1] not in first


def test_grouped_split_approximates_fraction_and_labels() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 800, 6000)
    labels = np.where(rng.random(6000) < 0.2, "rare", "common")
    frame = table(labels.tolist(), groups=[f"g{g}" for g in groups])
    held = hold_out(frame, 0.2, seed=0, purpose="test")
    assert held.mean() == pytest.approx(0.2, abs=0.01)
    assert (frame["label"][held] == "rare").mean() == pytest.approx(0.2, abs=0.03)


def test_one_huge_group_stays_in_training() -> None:
    frame = table(["a"] * 100, groups=["huge"] * 60 + [f"g{i}" for i in range(40)])
    for seed in range(10):
        assert hold_out(frame, 0.1, seed=seed, purpose="test").sum() == 10


def test_large_groups_are_held_out_if_necessary() -> None:
    frame = table(["a", "b"] * 60, groups=["x"] * 50 + ["y"] * 40 + ["z"] * 30)
    held = hold_out(frame, 0.01, seed=0, purpose="test")
    assert Counter(frame["group"][held]) == {"z": 30}


def test_nothing_can_be_held_out() -> None:
    frame = table(["a", "a", "b", "b"], groups=["x", "x", "y", "y"])
    with pytest.raises(BadInput, match=r"no row can be held out for validation[\s\S]*as a file"):
        hold_out(frame, 0.5, seed=0, purpose="validation")


def test_label_that_is_never_the_most_frequent_stays_in_training() -> None:
    labels = (["a"] * 9 + ["r"]) * 2 + ["a"] * 10
    groups = ["x"] * 10 + ["y"] * 10 + ["z"] * 10
    for seed in range(20):
        held = hold_out(table(labels, groups=groups), 0.7, seed=seed, purpose="test")
        assert set(np.array(labels)[~held]) == {"a", "r"}


def test_component_with_two_missing_labels_returns_once() -> None:
    frame = table(list("aaabc"), ["t", "t", "t", "t", "u"])
    for seed in range(10):
        with pytest.raises(BadInput, match="no row can be held out"):
            hold_out(frame, 0.9, seed=seed, purpose="test")


def test_subsample_keeps_order_fractions_and_rare_labels() -> None:
    frame = table(["a"] * 600 + ["b"] * 390 + ["c"] * 10)
    some = subsample(frame, 100, seed=1, purpose="max_train")
    assert some["label"].value_counts().to_dict() == {"a": 60, "b": 39, "c": 1}
    places = [int(text.split()[1]) for text in some["text"]]
    assert places == sorted(places)
    assert some.equals(subsample(frame, 100, seed=1, purpose="max_train"))
    assert not some["text"].equals(subsample(frame, 100, seed=2, purpose="max_train")["text"])
    tiny = subsample(frame, 6, seed=1, purpose="max_train", least=2)
    assert tiny["label"].value_counts().to_dict() == {"a": 2, "b": 2, "c": 2}
    assert subsample(frame, 5000, seed=1, purpose="max_train") is frame
