from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tuneoff.error_analysis import ambiguity
from tuneoff.error_analysis.ambiguity import entropy


def annotate(labels: list[str], true: Any, agree: Any) -> list[list[str]]:
    """Return five labels per row, of which `agree` are the true one."""
    return [
        [labels[t]] * a + [labels[(t + 1) % 3]] * (5 - a) for t, a in zip(true, agree, strict=True)
    ]


def test_errors_correlated_with_disagreement_are_found(toy: Any) -> None:
    rows = toy.rows()
    evidence = toy.evidence(rows, full=[toy.predictions(rows)])
    agree = np.random.default_rng(2).integers(3, 6, len(evidence))
    test = rows[rows["split"] == "test"]["row"].to_numpy()
    table = toy.worsened(toy.predictions(rows), test[agree == 3], 0.4)
    evidence = toy.evidence(rows, full=[table], lora=[toy.predictions(rows, seed=9)])
    found = ambiguity(evidence, annotate(toy.labels, evidence.true, agree))
    full, lora = found["full"], found["lora"]
    assert [(x.low, x.high) for x in full.levels] == [(0.6, 0.6), (0.8, 0.8), (1.0, 1.0)]
    assert full.levels[0].rate_low > full.levels[1].rate_high
    assert full.correlation is not None
    assert full.p is not None
    assert full.correlation > 0.2
    assert full.p < 1e-6
    assert lora.correlation == pytest.approx(0, abs=0.06)
    assert sum(x.rows for x in full.levels) == len(evidence)


def test_rows_with_fewer_than_two_labels_are_excluded(toy: Any) -> None:
    rows = toy.rows(test=100)
    evidence = toy.evidence(rows, full=[toy.predictions(rows)])
    some = [["neutral", "neutral"] if i < 30 else None if i < 60 else ["neutral"]
            for i in range(100)]  # fmt: skip
    found = ambiguity(evidence, some)["full"]
    assert [x.rows for x in found.levels] == [30]
    assert found.correlation is None


def test_many_annotators_are_binned(toy: Any) -> None:
    rows = toy.rows(test=600)
    evidence = toy.evidence(rows, full=[toy.predictions(rows)])
    rng = np.random.default_rng(0)
    many = [list(rng.choice(toy.labels, 100)) for _ in range(600)]
    levels = ambiguity(evidence, many)["full"].levels
    assert 2 <= len(levels) <= 6
    assert all(a.high <= b.low for a, b in pairwise(levels))


def test_invalid_annotations_are_rejected(toy: Any) -> None:
    rows = toy.rows(test=100)
    evidence = toy.evidence(rows, full=[toy.predictions(rows)])
    with pytest.raises(ValueError, match="annotations of 3 rows for 100 rows"):
        ambiguity(evidence, [["neutral"]] * 3)
    with pytest.raises(ValueError, match="no row has the labels of two"):
        ambiguity(evidence, [["neutral"]] * 100)


def test_entropy_in_bits() -> None:
    assert entropy(["a", "a", "a"]) == 0
    assert entropy(["a", "b"]) == 1
    assert entropy(["a", "b", "c", "d"]) == 2
