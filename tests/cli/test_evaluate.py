"""`tuneoff evaluate` with the test rows of a study, other rows, and invalid rows."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tuneoff as package
from tuneoff.exceptions import BadInput
from tuneoff.results.store import RunFolder


@pytest.fixture(scope="module")
def runs(finished_study: Any) -> dict[str, Path]:
    found = (finished_study.path / "runs").iterdir()
    return {path.name.partition("-")[0]: path for path in found if path.is_dir()}


def test_scores_on_the_study_test_rows_are_reproduced(
    tuneoff: Any, runs: dict[str, Path], finished_study: Any, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation.json"
    result = tuneoff("evaluate", *runs.values(), finished_study.test, "--out", out)
    assert result.code == 0, result.err
    assert "30 of 30 rows have a text on which the study was tested" in result.err
    assert max(map(len, result.out.splitlines())) <= 80
    found = json.loads(out.read_text())
    assert found["rows"] == 30
    assert found["labels"] == found["test_labels"]
    assert found["label_shift"] == {"distance": 0, "p": pytest.approx(1)}
    assert found["texts"] == found["test_texts"]
    for run, path in zip(found["runs"], runs.values(), strict=True):
        record = RunFolder(path).record()
        assert record
        assert record.quality.test
        expected = record.quality.test.to_plain()
        for key in ("accuracy", "macro_f1", "log_loss", "ece"):
            assert run["scores"][key] == pytest.approx(expected[key], abs=1e-6)
            assert run["intervals"][key]["low"] <= run["scores"][key]
            difference = run["differences"][key]
            assert difference["value"] == pytest.approx(0, abs=1e-6)
            assert difference["low"] <= 0 <= difference["high"]
        assert run["scores"]["confusion_matrix"] == expected["confusion_matrix"]
    pairs = {(pair["first"], pair["second"]) for pair in found["pairwise"]["pairs"]}
    assert len(pairs) == 3


def test_different_rows_are_detected(
    tuneoff: Any, runs: dict[str, Path], finished_study: Any, tmp_path: Path
) -> None:
    test = pd.read_csv(finished_study.test)
    label = str(test["label"].iloc[0])
    shifted = test[test["label"] == label].assign(text=lambda t: t["text"] + " zzqqx zzqqy")
    file = tmp_path / "new.csv"
    pd.concat([shifted] * 4).rename(columns={"text": "body", "label": "topic"}).to_csv(file)
    result = tuneoff("evaluate", runs["full"], file, "--text", "body", "--label", "topic", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["label_shift"]["p"] < 0.01
    assert found["label_shift"]["distance"] > 0.3
    assert found["texts"]["unknown_share"] > found["test_texts"]["unknown_share"] + 0.1
    assert found["texts"]["lengths"]["median"] > found["test_texts"]["lengths"]["median"]
    shown = tuneoff("evaluate", runs["full"], file, "--text", "body", "--label", "topic")
    assert "the proportions differ from those of the test rows" in " ".join(shown.out.split())


def test_training_rows_are_counted_in_a_note(runs: dict[str, Path], finished_study: Any) -> None:
    frame = pd.read_csv(finished_study.train)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = package.evaluate(runs["tfidf"], frame)
        again = package.load(runs["tfidf"]).evaluate(frame)  # type: ignore[union-attr]
    notes = [str(warning.message) for warning in caught]
    assert "data: 72 of 90 rows have a text on which the study trained" in notes
    assert all(note.startswith("data: ") for note in notes)
    assert found.texts is None  # tfidf has no tokenizer
    bad = pd.DataFrame({"text": ["rain"] * 2, "label": ["food", None]})
    with pytest.raises(BadInput, match=r"^data, row 1, column 'label': "):
        package.evaluate(runs["tfidf"], bad)
    assert again == found


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("rain", "weather"), ("milk", "fod")], "the runs have no label 'fod' (1 rows: lines 3)"),
        ([("rain", "")], "label"),
        ([], "the file has a header but no rows"),
    ],
)
def test_invalid_rows(
    tuneoff: Any, runs: dict[str, Path], tmp_path: Path, rows: list[Any], said: str
) -> None:
    file = tmp_path / "new.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    result = tuneoff("evaluate", runs["full"], file)
    assert result.code == 2
    assert said in " ".join(result.err.split())


def test_folder_without_a_run(tuneoff: Any, finished_study: Any, tmp_path: Path) -> None:
    result = tuneoff("evaluate", tmp_path, finished_study.test)
    assert result.code == 2
    assert "is not the folder of a run" in result.err
