"""Invalid input: exit code 2, one message, no run, no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def error_of(tuneoff: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`error_of("compare", …)`: run a command that must fail, and return its message."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any) -> str:
        result = tuneoff(*arguments)
        assert result.code == 2, result
        assert result.out == ""
        assert "Traceback" not in result.err
        assert not list(tmp_path.glob("**/record.json"))
        assert not list(tmp_path.glob("**/study.yaml"))
        return str(result.err)

    return call


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "f1"], "unknown metric 'f1'\n  Hint: Did you mean 'macro_f1'?"),
        (["--test", "1.5"], "tuneoff: --test must be a file, or a fraction in (0, 1)"),
        (["--max-memory", "lots"], "tuneoff: --max-memory must be 2GB"),
        (["--seeds", "0"], "seeds must be a positive number, or a list"),
        (["--seeds", "x"], "seeds must be a number (3), a range (2:8) or a list of seeds, not 'x'"),
        (["--epochs", "0"], "tuneoff: --epochs must be at least 1"),
        (["--batch-size", "-1"], "tuneoff: --batch-size must be at least 1"),
        (["--learning-rate", "fast"], "tuneoff: --learning-rate must be a number or 'auto'"),
        (["--class-weights", "balance"], "'none' or 'balanced'"),
        (["--precision", "f16"], "tuneoff: --precision must be 'auto', 'bf16', 'fp16' or 'fp32'"),
        (["--device", "gpu"], "tuneoff: --device must be 'auto', 'cpu', 'cuda' or 'mps'"),
        (["--workers", "0"], "workers must be 'auto' or a positive number, not '0'"),
        (["--validation", "2"], "tuneoff: --validation must be a file, or a fraction in (0, 1)"),
        (["--methods", "lorra"], "Did you mean 'lora'?"),
        (["--methods", "full,full"], "two methods are named 'full'"),
        (["--methods", ","], "--methods is empty"),
        (["--epoch", "3"], "--epochs"),
        (["nowhere.yaml"], "nowhere.yaml: there is no such study file"),
    ],
)
def test_errors_without_data(error_of: Any, options: list[str], said: str) -> None:
    assert said in error_of("compare", "--model", "m", "--train", "t.csv", *options)


def test_command_without_arguments(error_of: Any) -> None:
    text = error_of("compare")
    assert "'model' is missing" in text
    assert "--model" in text
    assert "--train" in text


def test_misspelt_command_suggests_the_nearest(error_of: Any) -> None:
    assert "Did you mean 'compare'?" in error_of("compair")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"--train": "toi.csv"}, ["toi.csv: there is no such file", "'toy.csv'"]),
        ({"--text": "txt"}, ["toy.csv, line 1", "no column 'txt'", "'text'", "--text"]),
        ({"--label": "Label"}, ["no column 'Label'", "'label'"]),
        ({"--max-length": 999}, ["the model", "takes at most 128 tokens", "Set max_length to 128"]),
        ({"--model": "./missing"}, ["./missing: there is no such folder"]),
        ({"--model": "nobody/nothing"}, ["'nobody/nothing'", "hub cannot be reached", "--model"]),
        ({"--model": "."}, ["config.json"]),
        ({"--out": "toy.csv"}, ["toy.csv: is a file"]),
    ],
)
def test_errors_before_a_model_is_loaded(
    error_of: Any, tiny_model: Any, toy_csv: Any, options: dict[str, Any], said: list[str]
) -> None:
    toy_csv(30)
    given = {"--model": tiny_model("bert"), "--train": "toy.csv", "--out": "study"} | options
    text = error_of("compare", *(x for pair in given.items() for x in pair))
    for part in said:
        assert part in text
    assert "started" not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"--model": "./missing"}, "./missing: there is no such folder"),
        ({"--max-length": 999}, "takes at most 128 tokens"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "check"])
def test_issues_of_model_and_data_are_reported_together(
    error_of: Any,
    tiny_model: Any,
    toy_csv: Any,
    tmp_path: Path,
    command: str,
    options: Any,
    said: str,
) -> None:
    toy_csv(30)
    (tmp_path / "test.csv").write_text("text,label\na,foot\n,\n")
    given = {"--model": tiny_model("bert"), "--test": "test.csv", "--label": "label"} | options
    train = ("--train", "toy.csv", "--out", "study") if command == "compare" else ("toy.csv",)
    text = error_of(command, *train, *(x for pair in given.items() for x in pair))
    assert said in text
    assert "test.csv, line 3, column 'label': the label is missing" in text
    (tmp_path / "toy.csv").write_text("text,label\na,x\nb,x\n")
    text = error_of(command, *train, *(x for pair in given.items() for x in pair))
    for part in (said, "all training rows have the label 'x'", "test.csv, line 3"):
        assert part in text


def test_check_and_compare_agree_on_a_single_class(
    error_of: Any, tiny_model: Any, tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\n")
    model = ("--model", tiny_model("bert"))
    said = "one.csv, column 'label': all training rows have the label 'x'"
    assert said in error_of("check", "one.csv", *model)
    assert said in error_of("compare", "--train", "one.csv", *model, "--out", "study")


def test_class_weights_of_unknown_label(
    error_of: Any, tiny_model: Any, toy_csv: Any, tmp_path: Path
) -> None:
    file = tmp_path / "asked.yaml"
    file.write_text(
        f"{{model: {tiny_model('bert')}, data: {{train: {toy_csv(30)}}},"
        " train: {class_weights: {foot: 2}}}"
    )
    text = error_of("compare", file)
    assert "class_weights: 'foot' is not a label of the data" in text
    assert "Did you mean 'food'?" in text


def test_min_recall_of_unknown_label(error_of: Any, tiny_model: Any, toy_csv: Any) -> None:
    given = ("compare", "--model", tiny_model("bert"), "--train", toy_csv(30), "--out", "study")
    text = error_of(*given, "--min-recall", "foot=0.8")
    assert "min_recall: 'foot' is not a label of the data" in text
    assert "Did you mean 'food'?" in text
    assert "started" not in text
    assert "--min-recall 'food' is not a label and a number" in error_of(
        *given, "--min-recall=food"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["rnk=3"], "method 'lora' has no setting 'rnk'"),
        (["rank"], "--set takes KEY=VALUE, not 'rank'"),
        (["rank=["], "the value is not valid YAML"),
        (["rank=many"], "rank must be a whole number, not 'many'"),
    ],
)
def test_settings_of_train(error_of: Any, settings: list[str], said: str) -> None:
    options = [x for pair in settings for x in ("--set", pair)]
    text = error_of(
        "train", "--method", "lora", "--out", "r", "--model", "m", "--train", "t.csv", *options
    )
    assert said in text


def test_predict(error_of: Any, finished_study: Any, toy_csv: Any, tmp_path: Path) -> None:
    toy_csv(6)
    run = next((finished_study.path / "runs").glob("full-*"))
    assert "Give one of its runs" in error_of("predict", finished_study.path, "toy.csv")
    assert "spec.json" in error_of("predict", tmp_path, "toy.csv")
    assert "'toy.csv'" in error_of("predict", run, "toi.csv")
    assert "no column 'words'" in error_of("predict", run, "toy.csv", "--text", "words")
    assert "is a folder" in error_of("predict", run, "toy.csv", "--out", tmp_path)
    assert "'gpu' is not available" in error_of("predict", run, "toy.csv", "--device", "gpu")


def test_report_and_check(error_of: Any, finished_study: Any, toy_csv: Any) -> None:
    toy_csv(6)
    near = finished_study.path.parent / "toi"
    assert "Did you mean 'toy'?" in error_of("report", near)
    model = finished_study.model
    assert "no such file" in error_of("check", "no.csv", "--model", model)
    assert "128 tokens" in error_of("check", "toy.csv", "--model", model, "--max-length", 129)
    assert "--max-length" in error_of("check", "toy.csv", "--model", model, "--max-length", -3)


def test_study_and_run_folders_are_distinguished(
    tuneoff: Any, finished_study: Any, tmp_path: Path
) -> None:
    run = next((finished_study.path / "runs").glob("full-*"))
    base = ("--model", finished_study.model, "--train", finished_study.train)
    result = tuneoff("train", "--method", "full", *base, "--out", finished_study.path)
    assert (result.code, "is the folder of a study, not of a run" in result.err) == (2, True)
    result = tuneoff("compare", *base, "--out", run)
    assert (result.code, "is the folder of a run, not of a study" in result.err) == (2, True)
