"""The Python interface: data frames, studies and runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tuneoff as package
from tuneoff import api
from tuneoff.config import DataSpec, StudySpec, TrainSpec, TunedStudyOptions
from tuneoff.exceptions import BadInput


@pytest.fixture(scope="module")
def frame(shared_csv: Any) -> pd.DataFrame:
    """Return rows with an index that is not 0, 1, …."""
    frame = pd.read_csv(shared_csv(60, seed=3, name="api.csv"))
    return frame.set_index(pd.Index([f"id{i % 7}" for i in range(len(frame))]))


def test_compare_takes_data_frames(
    tiny_model: Any, frame: pd.DataFrame, shared_csv: Any, tmp_path: Path
) -> None:
    test = pd.read_csv(shared_csv(21, seed=4, name="api-test.csv"))
    study = package.compare(
        model=tiny_model("bert"),
        train=frame,
        test=test,
        methods=["tfidf", {"method": "head", "epochs": 1}],
        seeds=[3],
        threads=1,
        out=tmp_path / "study",
        progress=False,
    )
    table = study.table()
    assert set(table.index) == {"tfidf", "head"}
    assert len(table.columns) < 16 < len(study.table(full=True).columns)
    assert list(table["compared_with_best"]).count("best") == 1
    assert (table["latency_seconds"] > 0).all()
    assert table["accuracy"].between(0, 1).all()
    assert [run.record.seed for run in study.runs] == [3, 3]
    assert study.summary["rows"]["test"] == 21
    assert study.spec.data.train.endswith("train.parquet")
    best = study.best()
    score = best.record.quality.validation
    assert score is not None
    assert score.macro_f1 == max(r.record.quality.validation.macro_f1 for r in study.runs)
    assert len(frame) == 60
    assert list(frame.columns) == ["text", "label"]  # the caller's frame is unchanged

    older = study.path / "runs" / "older-s0-00000000"  # a run of earlier settings
    shutil.copytree(best.path, older, symlinks=True)
    record = json.loads((older / "record.json").read_text())
    record["quality"]["validation"]["macro_f1"] = 1.5
    (older / "record.json").write_text(json.dumps(record))
    assert study.best().path == best.path


def test_methods_as_one_string(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown method 'loraa'(.|\n)*unknown method 'ful'") as no:
        package.compare(model="m", train=frame, methods="loraa, ful", out=tmp_path / "study")
    assert str(no.value).count("unknown method") == 2
    assert {"compare", "load", "Study"} <= set(dir(package))


def test_range_of_seeds(
    tiny_model: Any, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare() -> Any:
        return package.compare(
            model=tiny_model("bert"),
            train=frame,
            methods=["tfidf", {"method": "head", "epochs": 1}, {"method": "full", "epochs": 1}],
            seeds="2:3",
            threads=1,
            out=tmp_path / "study",
            progress=False,
        )

    study = compare()
    used, recommended = study.summary["seeds"], study.summary["recommendation"]
    assert used["first"] == 2
    assert used["most"] == 1 + 3 + 3
    assert study.summary["pairwise"]["looks"] == {"first": 2, "last": 3}
    assert used["runs"] == len(study.runs)
    assert (used["stopped"] == "settled") == (not recommended["open"])
    assert set(used["of"]) == {"head", "full"}
    report = (study.path / "report.html").read_text()
    assert f"{used['runs']} of at most 7 runs" in report
    assert "repeated confidence" in report
    assert study.spec.more_seeds == (2,)

    made = {run.path: run.folder.record_file.stat().st_mtime for run in study.runs}
    again = compare()  # selects the same seeds, which are finished
    assert {run.path: run.folder.record_file.stat().st_mtime for run in again.runs} == made
    assert again.summary["seeds"] == used


def test_train_and_predict(tiny_model: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    run = package.train(
        {"method": "lora", "rank": 2},
        model=tiny_model("bert"),
        train=frame,
        epochs=1,
        threads=1,
        seed=9,
        out=tmp_path / "run",
        progress=False,
    )
    assert run.record.seed == 9
    assert run.record.method.config["rank"] == 2
    assert (run.model_path / "adapter_config.json").is_file()
    found = run.predict(["the cat", "rain and snow"])
    assert found["prediction"].isin(["animals", "food", "weather"]).all()
    assert set(run.predictions()["split"]) == {"validation", "test"}
    assert repr(run).endswith("finished)")
    loaded = package.load(tmp_path / "run")
    assert isinstance(loaded, package.Run)
    assert loaded.record == run.record


def test_load(finished_study: Any, tmp_path: Path) -> None:
    study = package.load(finished_study.path)
    assert isinstance(study, package.Study)
    assert len(study.runs) == 3
    assert "3 runs" in repr(study)
    assert isinstance(package.load(study.runs[0].path), package.Run)
    with pytest.raises(BadInput, match="is not the folder of a study"):
        package.load(tmp_path)


def test_table_without_summary_uses_the_records(finished_study: Any, tmp_path: Path) -> None:
    shutil.copytree(finished_study.path, tmp_path / "copy")
    (tmp_path / "copy" / "summary.json").unlink()
    (tmp_path / "copy" / "report.html").unlink()
    study = package.Study(tmp_path / "copy")
    pd.testing.assert_frame_equal(study.table(), package.Study(finished_study.path).table())
    assert study.report() == tmp_path / "copy" / "report.html"
    assert study.report().is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "unknown option 'epoch'.\n  Hint: Did you mean 'epochs'?"),
        ({"method": "full"}, "unknown option 'method'.\n  Hint: Did you mean 'methods'?"),
        ({"epochs": 0}, "train.epochs must be at least 1"),
        ({"methods": ["ful"]}, "unknown method 'ful'"),
        ({"metric": "f1"}, "unknown metric 'f1'"),
    ],
)
def test_bad_options(
    frame: pd.DataFrame, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        package.compare(**{"model": "m", "train": frame, "out": tmp_path / "s", **options})
    assert said in str(refused.value)
    assert not list(tmp_path.glob("s/study.yaml"))


def test_data_frame_that_cannot_be_written(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"text": ["a", 1], "label": ["x", "y"]})
    with pytest.raises(BadInput, match=r"the pandas.DataFrame for 'train' cannot be written"):
        package.compare(model="m", train=mixed, out=tmp_path)


def test_functions_are_not_hidden_by_subpackages() -> None:

    assert package.compare is api.compare
    assert package.train is api.train


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_such"):
        package.nothing_such  # noqa: B018
    assert set(package.__all__) <= {*dir(package), *package._HOME}


@pytest.mark.parametrize("call", [package.compare, package.tune])
def test_options_of_a_search(call: Any, tmp_path: Path) -> None:
    given = {"model": "m", "train": "t.csv", "methods": ["full"], "out": tmp_path / "s"}
    with pytest.raises(BadInput, match=r"unknown key 'tune.trial'\n  Hint: Did you mean"):
        call(**given, tune={"trial": 2})
    with pytest.raises(BadInput, match=r"tune.trials must be at least 1"):
        call(**given, tune=0)
    with pytest.raises(BadInput, match=r"unknown option 'tunes'"):
        call(**given, tunes=3)


def test_report_with_predictions_of_other_tools(finished_study: Any, tmp_path: Path) -> None:
    study = package.Study(shutil.copytree(finished_study.path, tmp_path / "study"))
    table = study.runs[0].predictions()
    table = table[table["split"] == "test"][["row", "label"]].assign(prediction=table["label"])
    table.to_csv(tmp_path / "oracle.csv", index=False)
    wrong = table.assign(prediction="food")
    path = study.report(predictions={"oracle": tmp_path / "oracle.csv", "fixed": [wrong, wrong]})
    assert path == study.path / "report.html"
    rows = {row["name"]: row for row in study.summary["methods"]}
    assert rows["oracle"]["quality"]["accuracy"]["mean"] == 1
    assert rows["fixed"]["seeds"] == [0, 1]
    assert rows["oracle"]["cost"]["latency_seconds"]["mean"] is None
    with pytest.raises(BadInput, match="a method of the study has this name"):
        study.report(predictions={"tfidf": wrong})
    with pytest.raises(BadInput, match="test rows have no prediction"):
        study.report(predictions={"half": wrong.iloc[:5]})
    assert "oracle" in {row["name"] for row in study.summary["methods"]}  # unchanged
    study.report()
    assert "oracle" not in {row["name"] for row in study.summary["methods"]}


def test_keyword_options_are_the_study_settings() -> None:
    """Editors complete these names, which must match the specifications."""
    own = {"data", "methods", "train", "seeds", "more_seeds", "min_recall"}
    study = {f.name for f in fields(StudySpec)} - own
    expected = study | {f.name for f in fields(DataSpec)} | {f.name for f in fields(TrainSpec)}
    assert set(TunedStudyOptions.__annotations__) == expected


def test_issue_of_a_data_frame_names_the_argument(tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": ["rain", "snow"] * 9, "label": ["a", "b"] * 8 + ["a", None]})
    with pytest.raises(BadInput, match=r"(?m)^train, row 17, column 'label': "):
        package.compare(model="m", train=rows, methods=["tfidf"], out=tmp_path / "s")
