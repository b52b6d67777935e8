from __future__ import annotations

import json
from typing import Any

from tuneoff.error_analysis import analyze
from tuneoff.error_analysis.rows import CHARACTERS, LISTED, listed_rows
from tuneoff.error_analysis.suspects import LabelSuspect


def test_number_and_length_of_texts_are_limited(toy: Any) -> None:
    rows = toy.rows()
    rows["text"] = rows["text"] + " " + "x" * 5000
    found = listed_rows(
        toy.evidence(rows, full=[toy.predictions(rows, 0.5)], lora=[toy.predictions(rows, 0.5, 1)])
    )
    assert len(found) == LISTED == 300
    assert all(row.text and len(row.text) <= CHARACTERS for row in found)
    assert all(row.text and row.text.endswith("…") for row in found)


def test_rows_match_their_reasons(toy: Any) -> None:
    rows = toy.rows()
    evidence = toy.evidence(
        rows, full=[toy.predictions(rows)], lora=[toy.predictions(rows, 0.8, 1)]
    )
    found = listed_rows(evidence, [LabelSuspect(5, "neutral", "entailment", 0.1)])
    seen = {kind for row in found for kind in row.kinds}
    assert seen == {"confident", "disagreement", "all wrong", "label"}
    for row in found:
        place = evidence.ids.index(row.id)
        right = [a.right for a in row.predictions]
        assert right == [not evidence.wrong[a.method][place] for a in row.predictions]
        assert row.label == evidence.labels[evidence.true[place]]
        if "confident" in row.kinds:
            assert not all(right)
        if "disagreement" in row.kinds:
            assert any(right)
            assert not all(right)
        if "all wrong" in row.kinds:
            assert not any(right)
    assert [row.id for row in found if "label" in row.kinds] == [evidence.ids[5]]


def test_most_confident_error_is_first(toy: Any) -> None:
    rows = toy.rows(test=300)
    table = toy.predictions(rows)
    i = table.index[(table["split"] == "test") & (table["label"] == "neutral")][0]
    table.loc[i, "prediction"] = "entailment"
    table.loc[i, [f"probability_{x}" for x in toy.labels]] = [0.0, 1.0, 0.0]
    first = listed_rows(toy.evidence(rows, full=[table]))[0]
    assert first.id == table.loc[i, "row"]
    assert first.kinds == ("confident",)
    assert (first.predictions[0].label, first.predictions[0].probability) == ("entailment", 1.0)


def test_summary_is_json_without_texts(toy: Any) -> None:
    rows = toy.rows(test=400)
    rows.loc[rows["split"] == "test", "text"] += " a secret sentence"
    found = analyze(
        toy.evidence(rows, full=[toy.predictions(rows)], lora=[toy.predictions(rows, 0.7, 1)])
    )
    text = json.dumps(found.compact(), allow_nan=False)
    assert "secret sentence" not in text
    assert json.loads(text).keys() >= {"labels", "words", "slices", "overlap", "calibration"}
    assert len(text) < 40_000
