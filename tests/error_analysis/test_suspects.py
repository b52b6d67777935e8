from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from tuneoff.error_analysis import analyze, label_suspects
from tuneoff.exceptions import MissingExtra


def test_swapped_labels_are_found(toy: Any) -> None:
    pytest.importorskip("cleanlab", reason="needs the extra label-errors")
    rows = toy.rows(test=1000)
    table = toy.predictions(rows, 1.0)
    test = np.flatnonzero(table["split"] == "test")
    swapped = test[::50]
    for i in swapped:
        others = [x for x in toy.labels if x != table.loc[i, "label"]]
        table.loc[i, "label"] = others[0]
    evidence = toy.evidence(None, full=[table])
    found = label_suspects(evidence)
    assert found
    expected = {int(np.flatnonzero(test == i)[0]) for i in swapped}
    assert {s.place for s in found} <= expected
    assert len(found) >= 0.8 * len(expected)
    for s in found:
        assert s.suggested == table.loc[test[s.place], "prediction"]
        assert s.given == table.loc[test[s.place], "label"]
    assert [s.probability for s in found] == sorted(s.probability for s in found)


def test_missing_extra_is_named(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    rows = toy.rows(test=100)
    evidence = toy.evidence(rows, full=[toy.predictions(rows)])
    with pytest.raises(MissingExtra, match=r"pip install 'tuneoff\[label-errors\]'"):
        label_suspects(evidence)
    found = analyze(evidence)
    assert found.suspects is None
    assert found.suspects_missing
    assert "cleanlab" in found.suspects_missing
    assert found.words is not None


def test_no_suspects_without_probabilities(toy: Any) -> None:
    rows = toy.rows(test=100)
    table = toy.predictions(rows)[["split", "row", "label", "prediction"]]
    assert label_suspects(toy.evidence(rows, full=[table])) is None
