"""`tuneoff report --predictions`: predictions of other tools in the same table and report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tuneoff.results.store import StudyFolder


@pytest.fixture
def written(finished_study: Any, tmp_path: Path) -> Path:
    """A copy of the finished study, whose report is rewritten."""
    return Path(shutil.copytree(finished_study.path, tmp_path / "study"))


def predictions_of(study: Path) -> pd.DataFrame:
    run = next(run for run in StudyFolder(study).runs() if run.predictions_file.is_file())
    table = run.predictions()
    return table[table["split"] == "test"].drop(columns=["split", "weight"])


def test_predictions_are_shown_with_the_study_methods(
    tuneoff: Any, written: Path, tmp_path: Path
) -> None:
    table = predictions_of(written)
    table["prediction"] = table["label"]
    file = tmp_path / "qqoracle.csv"
    table[["row", "label", "prediction"]].to_csv(file, index=False)
    before = [row["name"] for row in json.loads((written / "summary.json").read_text())["methods"]]
    result = tuneoff("report", written, "--predictions", f"qqoracle={file}")
    assert result.code == 0, result.err
    assert ["qqoracle", "1.000"] in [line.split()[:2] for line in result.out.splitlines()]
    summary = json.loads((written / "summary.json").read_text())
    assert [row["name"] for row in summary["methods"]] == [*before, "qqoracle"]
    row = summary["methods"][-1]
    assert row["parameters"] is None
    assert {stat["mean"] for stat in row["cost"].values()} == {None}
    assert row["quality"]["log_loss"]["mean"] is None
    assert "qqoracle" in summary["errors"]["overlap"]["contenders"]
    assert not any(x["missed"] for x in summary["errors"]["labels"]["qqoracle"])
    assert "qqoracle" in (written / "report.html").read_text()


def test_next_report_is_without_the_predictions(
    tuneoff: Any, written: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.parquet"
    predictions_of(written).to_parquet(file, index=False)
    assert tuneoff("report", written, "--predictions", f"qqmine={file}").code == 0
    assert tuneoff("report", written).code == 0
    assert "qqmine" not in (written / "report.html").read_text()


def test_report_of_predictions_without_a_study(tuneoff: Any, tmp_path: Path) -> None:
    labels = ["no", "yes"] * 60
    files = []
    for name, every in (("good", 10), ("poor", 3)):
        said = [("no", "yes")[(i + (i % every == 0)) % 2] for i in range(120)]
        texts = [f"text {i} common" for i in range(120)]
        frame = pd.DataFrame({"row": range(120), "label": labels, "prediction": said})
        path = tmp_path / f"{name}.csv"
        frame.assign(text=texts).to_csv(path, index=False)
        files += ["--predictions", f"{name}={path}"]
    result = tuneoff("report", *files, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["rows"] == {"train": None, "validation": None, "test": 120}
    scores = {r["name"]: r["quality"]["accuracy"]["mean"] for r in summary["methods"]}
    assert scores == {"good": 108 / 120, "poor": 80 / 120}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Two sets of predictions for two labels" in page
    assert "text 0 common" in page
    assert 'id="cost"' not in page


@pytest.mark.parametrize(
    "name", [str, "{}.jpg#2r1e".format, "row {:>7}".format, lambda i: str(10**19 + i)]
)
def test_verdict_does_not_depend_on_row_names(tuneoff: Any, tmp_path: Path, name: Any) -> None:
    labels, options = ["no", "yes"] * 60, []
    for method, every in (("good", 10), ("poor", 3)):
        said = [("no", "yes")[(i + (i % every == 0)) % 2] for i in range(120)]
        rows = [name(i) for i in range(120)]
        frame = pd.DataFrame({"row": rows, "label": labels, "prediction": said})
        if method == "poor":  # the same rows in another order
            frame = frame.iloc[::-1]
        frame.to_csv(tmp_path / f"{method}.csv", index=False)
        options += ["--predictions", f"{method}={tmp_path / method}.csv"]
    result = tuneoff("report", *options, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    (pair,) = json.loads((tmp_path / "out" / "summary.json").read_text())["pairwise"]["pairs"]
    assert pair["rows"] == 120
    assert pair["answer"] == "better"
    assert (pair["mcnemar"]["only_first"], pair["mcnemar"]["only_second"]) == (36, 8)


def test_unusable_predictions_are_reported_with_the_reason(tuneoff: Any, written: Path) -> None:
    for run in StudyFolder(written).runs():
        table = run.predictions()
        run.write_predictions(pd.concat([table, table[table["split"] == "test"].head(1)]))
    result = tuneoff("report", written)
    assert result.code == 0, result.err
    page = (written / "report.html").read_text()
    assert "its predictions cannot be used: a test row occurs twice" in page


def test_rows_can_be_omitted(tuneoff: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("row,label,prediction,text\n0,a,b,qqprivate words\n1,b,b,others\n")
    result = tuneoff("report", "--predictions", f"x={file}", "--no-rows", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "qqprivate" not in (tmp_path / "out" / "report.html").read_text()
    assert "qqprivate" not in (tmp_path / "out" / "summary.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "There is nothing to report on."),
        (["--predictions", "x.csv"], "Write NAME=FILE"),
        (["--predictions", "x=nowhere.csv"], "nowhere.csv: there is no such file"),
        (["--predictions", "x=bad.csv"], "bad.csv: there is no column 'row'"),
        (["--predictions", "x=good.csv", "--metric", "f1"], "unknown metric 'f1'"),
        (["study", "--predictions", "x=good.csv"], "study: is not the folder of a study"),
    ],
)
def test_invalid_input_has_exit_code_2(
    tuneoff: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("label,prediction\na,b\n")
    Path("good.csv").write_text("row,label,prediction\n0,a,b\n1,b,b\n")
    result = tuneoff("report", *arguments)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("**/report.html"))


def test_name_of_a_study_method_is_an_error(tuneoff: Any, written: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    predictions_of(written).to_csv(file, index=False)
    name = StudyFolder(written).spec().methods[0].name
    result = tuneoff("report", written, "--predictions", f"{name}={file}")
    assert result.code == 2
    assert "a method of the study has this name" in result.err


def test_rows_of_another_file_are_an_error(tuneoff: Any, written: Path, tmp_path: Path) -> None:
    table = predictions_of(written)
    table["row"] += 1_000_000
    file = tmp_path / "x.csv"
    table.to_csv(file, index=False)
    before = (written / "report.html").read_bytes()
    result = tuneoff("report", written, "--predictions", f"x={file}")
    assert result.code == 2
    assert "is not a test row of the task" in result.err
    assert "line 2, column 'row'" in result.err
    assert (written / "report.html").read_bytes() == before


def test_annotators_are_compared_with_errors(tuneoff: Any, tmp_path: Path) -> None:
    """Annotators disagree on ten wrong rows, and agree on forty correct ones."""
    rows = [(i, "no", "yes" if i < 10 else "no") for i in range(50)] + [(50, "yes", "yes")]
    file, several = tmp_path / "x.csv", tmp_path / "annotators.jsonl"
    pd.DataFrame(rows, columns=["row", "label", "prediction"]).to_csv(file, index=False)
    several.write_text(
        "".join(
            json.dumps({"row": i, "annotations": ["no", "yes" if i < 10 else "no", "no"]}) + "\n"
            for i in range(50)
        )
    )
    arguments = ["report", "--predictions", f"x={file}", "--out", tmp_path / "out"]
    result = tuneoff(*arguments, "--annotations", several)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["errors"]["ambiguity"]["x"]
    assert [(x["rows"], x["rate"]) for x in found["levels"]] == [(10, 1.0), (40, 0.0)]
    assert found["correlation"] == pytest.approx(1)
    assert "Errors and disagreement of annotators" in (tmp_path / "out" / "report.html").read_text()

    several.write_text('{"row": 900, "annotations": ["no", "yes"]}\n')
    result = tuneoff(*arguments, "--annotations", several)
    assert result.code == 2
    assert "no test row has annotations of two annotators" in result.err

    several.write_text('{"row": 1, "annotations": ["no"]}\n{"row": 1, "annotations": "no"}\n')
    result = tuneoff(*arguments, "--annotations", several)
    assert result.code == 2
    assert "line 2, column 'annotations': not a list of labels" in result.err
    assert "line 2, column 'row': the row 1 occurs twice" in result.err


def test_methods_without_probabilities_have_no_log_loss(tuneoff: Any, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": range(60), "label": ["a", "b"] * 30})
    table.assign(prediction="a").to_csv(tmp_path / "hard.csv", index=False)
    likely = table["label"].map({"a": 0.9, "b": 0.1})
    soft = table.assign(prediction=table["label"], probability_a=likely, probability_b=1 - likely)
    soft.to_csv(tmp_path / "soft.csv", index=False)
    sources = [f"--predictions={name}={tmp_path / name}.csv" for name in ("soft", "hard")]
    result = tuneoff("report", *sources, "--metric", "log_loss", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    means = {row["name"]: row["quality"]["log_loss"]["mean"] for row in summary["methods"]}
    assert means == {"soft": pytest.approx(0.105, abs=0.001), "hard": None}
