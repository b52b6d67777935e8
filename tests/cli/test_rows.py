"""Rows of input and output files: detected columns, missing headers, and copied columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tuneoff.config import parse_study
from tuneoff.results.store import StudyFolder

ROWS = [("the cat ran", "animals"), ("bread and milk", "food"), ("rain and snow", "weather")]


@pytest.fixture(scope="module")
def run(finished_study: Any) -> Path:
    return next(Path(p) for p in (finished_study.path / "runs").glob("tfidf-*"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predict_copies_columns(tuneoff: Any, run: Path, here: Path) -> None:
    Path("new.csv").write_text(
        'id,note,n\nx-07,"two\nlines of rain",1.50\n,the cat ran,NA\n"a,b",@bread and milk,\n'
    )
    ended = tuneoff("predict", run, "new.csv", "--keep", "id,note,n", "--out", "p.csv")
    assert ended.code == 0, ended.err
    assert "uses column 'note' as the text" in ended.err.replace("\n", " ")
    table = pd.read_csv("p.csv", keep_default_na=False, dtype=str)
    assert list(table.columns)[:6] == ["row", "line", "id", "note", "n", "prediction"]
    assert table["row"].tolist() == ["0", "1", "2"]
    assert table["line"].tolist() == ["2", "4", "5"]
    assert table["id"].tolist() == ["x-07", "", "a,b"]
    assert table["note"].tolist() == ["two\nlines of rain", "the cat ran", "@bread and milk"]
    assert table["n"].tolist() == ["1.50", "NA", ""]


def test_predict_copies_typed_columns(tuneoff: Any, run: Path, here: Path) -> None:
    ids = [1234567890123456789, 1234567890123456790]
    pd.DataFrame({"text": ["rain", "bread"], "id": ids}).to_parquet("new.parquet")
    assert tuneoff("predict", run, "new.parquet", "--keep", "id", "--out", "p.csv").code == 0
    table = pd.read_csv("p.csv")
    assert table["id"].tolist() == ids
    assert "line" not in table


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("idd", "no column 'idd' Hint: Columns of the source: 'id', 'text'. Did you mean 'id'?"),
        ("prediction", "--keep 'prediction': is the name of a column of the result"),
        ("probability_food", "--keep 'probability_food'"),
    ],
)
def test_columns_that_cannot_be_copied(
    tuneoff: Any, run: Path, here: Path, keep: str, message: str
) -> None:
    Path("new.csv").write_text("id,text\n1,rain\n")
    ended = tuneoff("predict", run, "new.csv", "--keep", keep)
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
    assert not Path("predictions.csv").exists()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_rows_without_text_are_labelled_and_named(
    tuneoff: Any, run: Path, here: Path, ending: str
) -> None:
    frame = pd.DataFrame({"text": ["rain", None, "the cat ran", " ", "bread", ""]})
    file = f"new{ending}"
    if ending == ".csv":
        frame.to_csv(file, index=False, quoting=1)
    elif ending == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file)
    ended = tuneoff("predict", run, file)
    assert ended.code == 0, ended.err
    named = {".csv": "lines 3, 5, 7", ".jsonl": "lines 2, 4, 6", ".parquet": "rows 1, 3, 5"}[ending]
    note = f"note: {file}: rows with an empty text, labelled anyway: 3 of 6 ({named})"
    assert ended.err == f"{note}\n"
    table = pd.read_csv("predictions.csv")
    assert len(table) == 6
    word = named.partition("s ")[0]
    assert set(map(str, table[word])) >= set(named.partition("s ")[2].split(", "))


def test_columns_and_header_of_a_study_are_found_and_kept(
    tuneoff: Any, tiny_model: Any, here: Path
) -> None:
    lines = [f"{text} {i}\t{i % 2}" for i in range(20) for text, _ in ROWS]
    Path("train.tsv").write_text("\n".join(lines) + "\n")
    model = tiny_model("bert")
    asked = ("--model", model, "--methods", "tfidf", "--seeds", 1, "--out", "study")
    ended = tuneoff("compare", "--train", "train.tsv", *asked)
    assert ended.code == 0, ended.err
    notes = " ".join(ended.err.split())
    assert "train.tsv: the first row is read as data, not as a header" in notes
    assert "uses column '1' as the text and column '2' as the label" in notes
    study = StudyFolder("study")
    spec = study.spec()
    assert (spec.data.text, spec.data.label) == ("1", "2")
    (done,) = list(study.runs())
    assert len(pd.read_parquet(done.predictions_file)) + done.record().data.train_rows == 60  # type: ignore[union-attr]

    again = tuneoff("compare", study.spec_file, "--no-header", "--out", "study")
    assert (again.code, len(list(study.runs()))) == (0, 1), again.err
    Path("new.csv").write_text("the cat ran up here\nbread and milk for all\n")
    ended = tuneoff("predict", done.path, "new.csv", "--keep", "1")
    assert ended.code == 0, ended.err
    table = pd.read_csv("predictions.csv")
    assert table["1"].tolist() == ["the cat ran up here", "bread and milk for all"]
    assert table["line"].tolist() == [1, 2]
    assert table["prediction"].isin([0, 1]).all()


@pytest.mark.parametrize("command", ["check", "compare", "train", "tune", "forecast"])
def test_every_command_refuses_ambiguous_columns(
    tuneoff: Any, tiny_model: Any, here: Path, command: str
) -> None:
    rows = [f"{text} {i} here,the {text} {i},{label}" for i in range(8) for text, label in ROWS]
    Path("a.csv").write_text("\n".join(["title,body,topic", *rows]) + "\n")
    model = ("--model", tiny_model("bert"))
    given = {
        "check": ("a.csv", *model),
        "train": ("--train", "a.csv", *model, "--method", "tfidf", "--out", "out"),
    }.get(command, ("--train", "a.csv", *model, "--out", "out"))
    ended = tuneoff(command, *given)
    assert (ended.code, ended.out) == (2, "")
    message = " ".join(ended.err.split())
    assert (
        "a.csv: there is no column 'text', and several columns can be the text: 'title'" in message
    )
    assert "--text" in message


def test_check_counts_groups(tuneoff: Any, tiny_model: Any, here: Path) -> None:
    lines = [f"{text} {i},{label},{i // 4 or ''}" for i in range(20) for text, label in ROWS]
    Path("a.csv").write_text("\n".join(["text,label,thread", *lines]) + "\n")
    ended = tuneoff("check", "a.csv", "--group", "thread", "--model", tiny_model("bert"))
    assert ended.code == 0, ended.err
    shown = " ".join(ended.out.split())
    assert "groups: 4 distinct groups, 12 rows in the largest one, 12 rows without a group" in shown
    plain = tuneoff("check", "a.csv", "--model", tiny_model("bert"))
    assert "groups:" not in plain.out


def test_a_column_by_number_in_a_study_file() -> None:
    study = parse_study({"model": "m", "data": {"train": "a.tsv", "text": 1, "header": False}})
    assert (study.data.text, study.data.label, study.data.header) == ("1", None, False)
