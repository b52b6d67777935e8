"""The commands train, predict, report, check, methods and doctor, and their help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tuneoff import __version__
from tuneoff.methods import BUILT_IN

COMMANDS = [
    "compare",
    "forecast",
    "train",
    "check",
    "methods",
    "report",
    "predict",
    "doctor",
    "demo",
]


@pytest.fixture(scope="module")
def trained(
    tuneoff: Any, finished_study: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A LoRA run of `tuneoff train` in its own folder."""
    out = tmp_path_factory.mktemp("runs") / "lora"
    result = tuneoff(
        *("train", "--method", "lora", "--set", "rank=3", "--set", "targets=[query, value]"),
        *("--model", finished_study.model, "--train", finished_study.train, "--epochs", 1),
        *("--learning-rate", "1e-3", "--seed", 4, "--threads", 1, "--out", out),
    )
    return result, out


def test_train_writes_one_run_into_the_folder(trained: tuple[Any, Path]) -> None:
    result, out = trained
    assert result.code == 0, result.err
    assert f"Model: {out / 'model'}" in result.out
    assert result.out.splitlines()[2].split()[0] == "lora"
    names = {"spec.json", "record.json", "history.jsonl", "predictions.parquet", "study.yaml"}
    assert names | {"model"} <= {p.name for p in out.iterdir()}
    record = json.loads((out / "record.json").read_text())
    assert record["method"]["config"]["rank"] == 3
    assert record["method"]["config"]["targets"] == ["query", "value"]
    assert record["seed"] == 4
    assert record["train"]["learning_rate"] == 1e-3


def test_train_does_not_train_twice(trained: tuple[Any, Path], tuneoff: Any) -> None:
    _, out = trained
    written = (out / "record.json").stat().st_mtime_ns
    study = json.loads((out / "spec.json").read_text())
    result = tuneoff(
        *("train", "--method", "lora", "--set", "rank=3", "--set", "targets=[query, value]"),
        *("--model", study["model"], "--train", _train_file(out), "--epochs", 1),
        *("--learning-rate", "1e-3", "--seed", 4, "--out", out, "--json"),
    )
    assert result.code == 0
    assert result.err == ""
    assert json.loads(result.out)["run_id"] == study_run_id(out)
    assert (out / "record.json").stat().st_mtime_ns == written


def _train_file(out: Path) -> str:
    import yaml

    return str(yaml.safe_load((out / "study.yaml").read_text())["data"]["train"])


def study_run_id(out: Path) -> str:
    return str(json.loads((out / "record.json").read_text())["run_id"])


def test_the_report_of_a_single_run(trained: tuple[Any, Path], tuneoff: Any) -> None:
    _, out = trained
    result = tuneoff("report", out)
    assert result.code == 0
    assert "not run" not in result.out
    assert (out / "report.html").is_file()


def test_predict_writes_labels_by_name(tuneoff: Any, finished_study: Any, tmp_path: Path) -> None:
    run = next((finished_study.path / "runs").glob("lora-*"))
    out = tmp_path / "deep" / "new.csv"
    result = tuneoff("predict", run, finished_study.test, "--out", out)
    assert result.code == 0, result.err
    assert result.out == f"30 rows: {out}\n"
    assert result.err == ""
    table = pd.read_csv(out)
    kept = pd.read_parquet(run / "predictions.parquet").query("split == 'test'")
    columns = [f"probability_{x}" for x in ("animals", "food", "weather")]
    assert list(table.columns) == ["row", "line", "prediction", *columns]
    assert table["row"].tolist() == kept["row"].tolist()
    assert table["prediction"].tolist() == kept["prediction"].tolist()
    assert abs(table[columns].to_numpy() - kept[columns].to_numpy()).max() < 1e-6


def test_predict_reads_jsonl(tuneoff: Any, finished_study: Any, tmp_path: Path) -> None:
    run = next((finished_study.path / "runs").glob("tfidf-*"))
    file = tmp_path / "new.jsonl"
    file.write_text('{"body": "rain and snow"}\n{"body": "bread"}\n')
    result = tuneoff("predict", run, file, "--text", "body", "--out", tmp_path / "p.csv")
    assert result.code == 0, result.err
    assert pd.read_csv(tmp_path / "p.csv")["prediction"].tolist() == ["weather", "food"]


def test_check_shows_the_data(tuneoff: Any, finished_study: Any) -> None:
    one = tuneoff("check", finished_study.train, "--model", finished_study.model)
    assert one.code == 0, one.err
    assert "90 rows, 3 labels" in one.out
    assert "animals" in one.out
    assert "max_length 128: 0 rows (0.0%) are truncated" in one.out
    both = tuneoff(
        *("check", finished_study.train, "--test", finished_study.test),
        *("--model", finished_study.model, "--max-length", 8),
    )
    assert both.code == 0, both.err
    assert "test: 30 rows" in both.out
    assert "rows of test have a text that is also in train" in both.out
    assert max(map(len, (one.out + both.out).splitlines())) <= 80


def test_methods_are_listed(tuneoff: Any) -> None:
    result = tuneoff("methods")
    assert result.code == 0
    names = [x[2:].split()[0] for x in result.out.splitlines() if x[:2] == "  " and x[2:3].strip()]
    assert names == [m.name for m in BUILT_IN]
    assert max(map(len, result.out.splitlines())) <= 80
    rows = json.loads(tuneoff("methods", "--json").out)
    lora = next(row for row in rows if row["name"] == "lora")
    assert lora["settings"]["rank"] == 8
    assert lora["paper"].startswith("Hu et al.")


def test_one_method_is_described(tuneoff: Any) -> None:
    result = tuneoff("methods", "adapter")
    assert result.code == 0
    for word in ("placement: houlsby", "size: 48", "Pfeiffer et al. 2020", "tuneoff.load"):
        assert word in " ".join(result.out.split())
    assert max(map(len, result.out.splitlines())) <= 80
    assert json.loads(tuneoff("methods", "adapter", "--json").out)["family"] == "adapters"
    unknown = tuneoff("methods", "adaptor")
    assert unknown.code == 2
    assert "Did you mean 'adapter'?" in unknown.err


def test_doctor_shows_what_a_run_would_use(tuneoff: Any) -> None:
    result = tuneoff("doctor")
    assert result.code == 0, result.err
    for word in ("python", "torch", "device", "precision", "TFLOP/s"):
        assert word in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_version(tuneoff: Any) -> None:
    assert tuneoff("--version").out == f"{__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_explains_each_option(tuneoff: Any, command: str) -> None:
    result = tuneoff(command, "--help")
    assert result.code == 0
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert command in tuneoff("--help").out
    # an option alone on a line is followed by its explanation
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("  --") and len(line.split("  ", 2)) < 3:
            assert after.startswith("      "), line


HEAVY = ("torch", "transformers", "pandas", "plotly", "sklearn", "datasets", "pyarrow")


@pytest.mark.parametrize(
    "code",
    [
        "import tuneoff",
        "import sys, tuneoff.cli; sys.argv = ['tuneoff', '--help']; tuneoff.cli.main()",
        "import sys, tuneoff.cli; sys.argv = ['tuneoff', 'compare', '--help']; tuneoff.cli.main()",
    ],
)
def test_help_loads_nothing_heavy(code: str) -> None:
    seen = subprocess.run(
        [
            sys.executable,
            "-c",
            "import atexit, sys\n"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n" + code,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(HEAVY) & set(seen.stderr.split())
