from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_order_of_rows_does_not_matter(toy: Any) -> None:
    rows = toy.rows(test=200)
    table = toy.predictions(rows)
    mixed = table.sample(frac=1, random_state=3)
    one = toy.evidence(rows, full=[table, toy.predictions(rows, seed=1)])
    other = toy.evidence(rows.sample(frac=1, random_state=4), full=[table, one_of(toy, rows, 1)])
    both = toy.evidence(rows, full=[table], lora=[mixed])
    assert one.texts == other.texts
    assert (one.predictions["full"] == other.predictions["full"]).all()
    assert (both.predictions["full"] == both.predictions["lora"]).all()
    first = rows[(rows["split"] == "test") & (rows["row"] == one.ids[7])].iloc[0]
    assert one.texts is not None
    assert one.texts[7] == first["text"]
    assert one.labels[one.true[7]] == first["label"]


def one_of(toy: Any, rows: Any, seed: int) -> Any:
    return toy.predictions(rows, seed=seed).sample(frac=1, random_state=seed)


def test_majority_vote_of_seeds_and_ties(toy: Any) -> None:
    rows = toy.rows(test=60)
    tables = [toy.predictions(rows, accuracy=0.5, seed=seed) for seed in range(3)]
    found = toy.evidence(rows, full=tables).predictions["full"]
    test = [t[t["split"] == "test"].reset_index(drop=True) for t in tables]
    for i in range(60):
        votes = [t["prediction"][i] for t in test]
        most = max(set(votes), key=votes.count)
        if votes.count(most) > 1:
            assert toy.labels[found[i]] == most
    two = toy.evidence(rows, full=tables[:2]).predictions["full"]
    columns = [f"probability_{label}" for label in toy.labels]
    mean = (test[0][columns].to_numpy() + test[1][columns].to_numpy()) / 2
    split = [i for i in range(60) if test[0]["prediction"][i] != test[1]["prediction"][i]]
    assert split
    for i in split:
        candidates = [toy.labels.index(t["prediction"][i]) for t in test[:2]]
        assert two[i] == max(candidates, key=lambda c: mean[i, c])


def test_tables_of_different_rows_are_rejected(toy: Any) -> None:
    rows = toy.rows(test=50)
    table = toy.predictions(rows)
    with pytest.raises(ValueError, match="'lora' are for different rows"):
        toy.evidence(rows, full=[table], lora=[table.assign(row=table["row"] + 1)])


def test_baseline_is_a_contender_only_alone(toy: Any) -> None:
    rows = toy.rows(test=50)
    table = toy.predictions(rows)
    assert [m.name for m in toy.evidence(rows, baseline=[table], full=[table]).contenders] == [
        "full"
    ]
    assert [m.name for m in toy.evidence(rows, baseline=[table]).contenders] == ["baseline"]


def test_probabilities_are_optional(toy: Any) -> None:
    rows = toy.rows(test=50)
    table = toy.predictions(rows)
    plain = table[["split", "row", "label", "prediction"]]
    found = toy.evidence(None, full=[plain])
    assert found.methods[0].test[0].probabilities is None
    assert np.array_equal(found.wrong["full"], toy.evidence(rows, full=[table]).wrong["full"])
