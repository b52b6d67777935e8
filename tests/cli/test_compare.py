"""`tuneoff compare` end to end: a tiny encoder, toy data, real worker processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tuneoff.config import parse_study
from tuneoff.results.store import StudyFolder

FIELDS = {
    "": "schema run_id status error method seed data parameters quality cost environment warnings",
    "method": "name family config",
    "data": "fingerprint train_rows validation_rows test_rows labels",
    "parameters": "total trainable trainable_body trainable_head trainable_percent",
    "quality.validation": "accuracy macro_f1 weighted_f1 macro_precision macro_recall mcc log_loss"
    " ece per_class confusion_matrix",
    "quality.test": "accuracy macro_f1 weighted_f1 macro_precision macro_recall mcc log_loss ece"
    " per_class confusion_matrix",
    "cost": "train_seconds evaluate_seconds total_seconds samples_per_second tokens_per_second"
    " latency_seconds"
    " peak_memory_bytes memory storage_bytes flops_utilization",
}
"""Fields that every record.json must have, by section."""


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(f.read_text()) for f in sorted(folder.glob("runs/*/record.json"))]
    return {r["method"]["name"]: r for r in found}


def written(folder: Path) -> dict[str, int]:
    return {f.parent.name: f.stat().st_mtime_ns for f in folder.glob("runs/*/record.json")}


def copied(finished_study: Any, tmp_path: Path) -> tuple[Path, list[Any]]:
    """A copy of the finished study, and the command that created it."""
    folder = tmp_path / "toy"
    shutil.copytree(finished_study.path, folder)
    return folder, [*finished_study.arguments[:-1], folder]


def test_compare_succeeds_and_prints_the_table(finished_study: Any) -> None:
    result = finished_study.result
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("method"))
    assert lines[head].split()[:3] == ["method", "acc.", "macro-F1"]
    assert {line.split()[0] for line in lines[head + 2 : head + 5]} == {"tfidf", "full", "lora/r"}
    assert all(len(line) <= 80 for line in lines if not line.startswith(("Report", "To use it")))
    assert f"Report: {finished_study.path / 'report.html'}" in result.out
    assert "3 runs on 72 / 18 / 30 rows" in result.err
    assert "[3/3] lora/r 2, seed 0: accuracy" in result.err


def test_verdict_is_first_and_predict_command_last(
    finished_study: Any,
) -> None:
    summary = json.loads((finished_study.path / "summary.json").read_text())
    assert len(summary["pairwise"]["pairs"]) == 3
    assert {pair["rows"] for pair in summary["pairwise"]["pairs"]} == {30}
    found = summary["recommendation"]
    assert (finished_study.path / "runs" / found["run_id"] / "model").is_dir()
    assert " ".join(finished_study.result.out.split()).startswith(found["sentences"][0])
    assert f"To use it: {found['command']}" in finished_study.result.out


def test_written_study_file_has_every_setting(finished_study: Any) -> None:
    plain = yaml.safe_load((finished_study.path / "study.yaml").read_text())
    assert plain["data"]["train"] == str(
        finished_study.train
    )  # the option replaces the value of the file
    assert plain["data"]["validation"] == 0.2  # but not the rest of its section
    assert plain["train"]["epochs"] == 6
    assert plain["train"]["learning_rate"] == 0.003
    assert plain["train"]["weight_decay"] == 0.01
    assert plain["seeds"] == [0]
    assert [m["name"] for m in plain["methods"]] == ["tfidf", "full", "lora/r 2"]
    assert parse_study(plain) == StudyFolder(finished_study.path).spec()


def test_each_run_has_all_files(finished_study: Any) -> None:
    folders = sorted((finished_study.path / "runs").iterdir())
    assert [f.name.rpartition("-")[0] for f in folders] == ["full-s0", "lora-r-2-s0", "tfidf-s0"]
    for folder in folders:
        names = {"spec.json", "record.json", "history.jsonl", "predictions.parquet", "model"}
        assert names <= {p.name for p in folder.iterdir()}
        assert not (folder / "checkpoint").exists()
        assert len(folder.name.rpartition("-")[2]) == 8
        assert json.loads((folder / "record.json").read_text())["run_id"] == folder.name
    table = pd.read_parquet(folders[0] / "predictions.parquet")
    assert list(table.columns) == [
        *("split", "row", "label", "prediction"),
        *(f"probability_{x}" for x in ("animals", "food", "weather")),
        "weight",
    ]
    assert table["split"].value_counts().to_dict() == {"test": 30, "validation": 18}


@pytest.mark.parametrize("name", ["tfidf", "full", "lora/r 2"])
def test_each_record_has_every_field(finished_study: Any, name: str) -> None:
    record = records(finished_study.path)[name]
    for section, fields in FIELDS.items():
        place = record
        for key in filter(None, section.split(".")):
            place = place[key]
        assert set(fields.split()) <= set(place), section
    assert record["status"] == "finished"
    assert record["error"] is None
    assert record["data"]["labels"] == ["animals", "food", "weather"]
    assert record["data"]["train_rows"] == 72
    if name == "tfidf":
        assert record["cost"]["tokens_per_second"] is None  # it has no tokens
    else:
        assert record["cost"]["tokens_per_second"] > 0
    assert record["cost"]["storage_bytes"] > 0
    assert record["cost"]["latency_seconds"] > 0
    assert record["warnings"] == []


def test_each_saved_model_was_compared_with_the_measured_one(finished_study: Any) -> None:
    found = records(finished_study.path)
    assert found["tfidf"]["checks"] is None
    for name in ("full", "lora/r 2"):
        checks = found[name]["checks"]
        assert (checks["unchanged"], checks["changed"]) == ([], [])
        assert checks["reopened"]["logits"] <= checks["reopened"]["tolerance"] == 0.002
        assert (checks["merged"] is None) == (name == "full")
    assert not list(finished_study.path.glob("runs/*/.sample*"))


def test_summary_and_report_exist(finished_study: Any) -> None:
    summary = json.loads((finished_study.path / "summary.json").read_text())
    assert [row["name"] for row in summary["methods"]] == ["tfidf", "full", "lora/r 2"]
    assert summary["methods"][0]["quality"]["macro_f1"]["n"] == 1
    assert "study-train.csv" in summary["command"]
    page = (finished_study.path / "report.html").read_text(encoding="utf-8")
    assert "tuneoff compare" in page


def test_resume_and_changed_settings(finished_study: Any, tuneoff: Any, tmp_path: Path) -> None:
    folder, command = copied(finished_study, tmp_path)
    before = written(folder)

    again = tuneoff(*command, "--json")
    assert again.code == 0
    assert again.err == ""
    assert json.loads(again.out)["methods"][1]["name"] == "full"
    assert written(folder) == before  # a second call starts no run

    # The same rows or the same model in another folder are not a change.
    elsewhere = shutil.copy(finished_study.train, tmp_path / "copy.csv")
    model = shutil.copytree(finished_study.model, tmp_path / "model")
    same = tuneoff(*command, "--train", elsewhere, "--model", model)
    assert same.code == 0
    assert "3 already finished" in same.err
    assert written(folder) == before

    changed = tuneoff(*command, "--methods", "tfidf", "--class-weights", "balanced")
    assert changed.code == 0
    assert len(written(folder)) == 4  # a new run in addition to the old ones
    assert before.items() <= written(folder).items()
    table, _, rest = changed.out.partition("\nnote: ")
    assert "full" not in table  # it shows the current study
    assert rest.startswith("runs of methods that are not in this study are kept: ")
    assert "full" in rest.partition("\n")[0]
    assert "To use it: tuneoff predict" in rest
    assert yaml.safe_load((folder / "study.yaml").read_text())["train"]["class_weights"]


def test_unsupported_method_is_an_error_before_any_run(
    finished_study: Any, tuneoff: Any, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"model: {finished_study.model}\n"
        f"data: {{train: {finished_study.train}, test: {finished_study.test}}}\n"
        "methods: [{method: partial, k: 9}, tfidf, {method: lora, name: mine, layers: last 5}]\n"
    )
    result = tuneoff("compare", file, "--out", tmp_path / "study")
    assert result.code == 2
    assert "method 'partial': k is 9, but the bert encoder has 3 layers" in result.err
    assert "method 'mine': layers is 'last 5', but the bert encoder has 3 layers" in result.err
    assert not list((tmp_path / "study").glob("runs/*"))


def test_failed_run_is_recorded_and_others_are_kept(
    finished_study: Any, tuneoff: Any, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"model: {finished_study.model}\n"
        f"data: {{train: {finished_study.train}, test: {finished_study.test}}}\n"
        "methods: [{method: full, name: wild, learning_rate: 1e30}, tfidf]\n"
        "seeds: [5]\n"
        "train: {threads: 1}\n"
    )
    result = tuneoff("compare", file, "--out", tmp_path / "study")
    assert result.code == 1
    assert "wild, seed 5: diverged: the" in result.err
    assert "wild: 1 of 1 runs diverged" in result.out
    found = records(tmp_path / "study")
    assert found["tfidf"]["status"] == "finished"
    failed = found["wild"]
    assert failed["status"] == "diverged"
    assert "became" in failed["error"] or "not finite" in failed["error"]
    assert failed["quality"] == {"validation": None, "test": None}
    assert failed["cost"]["train_seconds"] is None
    for section in ("", "method", "data", "cost"):
        place = failed[section] if section else failed
        assert set(FIELDS[section].split()) <= set(place)
    assert (tmp_path / "study" / "report.html").is_file()

    rebuilt = tuneoff("report", tmp_path / "study")
    assert rebuilt.code == 0
    assert "wild: 1 of 1 runs diverged" in rebuilt.out
    summary = json.loads((tmp_path / "study" / "summary.json").read_text())
    assert summary["command"].startswith("tuneoff compare ")  # not: tuneoff report
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert summary["command"] in page


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_fresh_on_a_terminal_shows_progress_bars(finished_study: Any, tmp_path: Path) -> None:
    import fcntl
    import struct
    import termios

    folder, command = copied(finished_study, tmp_path)
    before = written(folder)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from tuneoff.cli import main; main()"),
            *map(str, command),
            *("--methods", "tfidf", "--fresh"),
        ],
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1 << 16):
            shown += piece
    except OSError:  # error on Linux when the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.communicate()[0]
    assert process.returncode == 0
    ran_anew = {run for run, time in written(folder).items() if time != before.get(run)}
    assert [run.partition("-")[0] for run in ran_anew] == ["tfidf"]
    text = shown.decode()
    assert "tfidf s0" in text
    assert "━" in text
    assert "0/1 runs" in text
    assert "tfidf, seed 0: accuracy" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is visible again
