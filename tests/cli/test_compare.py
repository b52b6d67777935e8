"""`tuneoff compare` from end to end: a tiny encoder, toy data, real worker processes."""

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
"""What every record.json holds at least, by section."""


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(f.read_text()) for f in sorted(folder.glob("runs/*/record.json"))]
    return {r["method"]["name"]: r for r in found}


def written(folder: Path) -> dict[str, int]:
    return {f.parent.name: f.stat().st_mtime_ns for f in folder.glob("runs/*/record.json")}


def copied(finished_study: Any, tmp_path: Path) -> tuple[Path, list[Any]]:
    """A study of one's own, and the command that made it."""
    folder = tmp_path / "toy"
    shutil.copytree(finished_study.path, folder)
    return folder, [*finished_study.arguments[:-1], folder]


def test_it_ends_well_and_prints_the_table(finished_study: Any) -> None:
    ended = finished_study.ended
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("method"))
    assert lines[head].split()[:3] == ["method", "acc.", "macro-F1"]
    assert {line.split()[0] for line in lines[head + 2 : head + 5]} == {"tfidf", "full", "lora/r"}
    assert all(len(line) <= 80 for line in lines if not line.startswith(("Report", "To use it")))
    assert f"Report: {finished_study.path / 'report.html'}" in ended.out
    assert "3 runs on 72 / 18 / 30 rows" in ended.err
    assert "[3/3] lora/r 2, seed 0: accuracy" in ended.err


def test_the_verdict_comes_first_and_the_command_that_uses_it_last(
    finished_study: Any,
) -> None:
    summary = json.loads((finished_study.path / "summary.json").read_text())
    assert len(summary["pairwise"]["pairs"]) == 3
    assert {pair["rows"] for pair in summary["pairwise"]["pairs"]} == {30}
    found = summary["recommendation"]
    assert (finished_study.path / "runs" / found["run_id"] / "model").is_dir()
    assert " ".join(finished_study.ended.out.split()).startswith(found["sentences"][0])
    assert f"To use it: {found['command']}" in finished_study.ended.out


def test_the_study_file_holds_every_setting_and_reads_back(finished_study: Any) -> None:
    plain = yaml.safe_load((finished_study.path / "study.yaml").read_text())
    assert plain["data"]["train"] == str(finished_study.train)  # the option went over the file
    assert plain["data"]["validation"] == 0.2  # and left the rest of its section
    assert plain["train"]["epochs"] == 6
    assert plain["train"]["learning_rate"] == 0.003
    assert plain["train"]["weight_decay"] == 0.01
    assert plain["seeds"] == [0]
    assert [m["name"] for m in plain["methods"]] == ["tfidf", "full", "lora/r 2"]
    assert parse_study(plain) == StudyFolder(finished_study.path).spec()


def test_each_run_has_its_files(finished_study: Any) -> None:
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
        assert record["cost"]["tokens_per_second"] is None  # it sees no tokens
    else:
        assert record["cost"]["tokens_per_second"] > 0
    assert record["cost"]["storage_bytes"] > 0
    assert record["cost"]["latency_seconds"] > 0
    assert record["warnings"] == []


def test_each_saved_model_was_held_against_the_measured_one(finished_study: Any) -> None:
    found = records(finished_study.path)
    assert found["tfidf"]["checks"] is None
    for name in ("full", "lora/r 2"):
        checks = found[name]["checks"]
        assert (checks["unchanged"], checks["changed"]) == ([], [])
        assert checks["reopened"]["logits"] <= checks["reopened"]["tolerance"] == 0.002
        assert (checks["merged"] is None) == (name == "full")
    assert not list(finished_study.path.glob("runs/*/.sample*"))


def test_the_summary_and_the_report_are_there(finished_study: Any) -> None:
    summary = json.loads((finished_study.path / "summary.json").read_text())
    assert [row["name"] for row in summary["methods"]] == ["tfidf", "full", "lora/r 2"]
    assert summary["methods"][0]["quality"]["macro_f1"]["n"] == 1
    assert "study-train.csv" in summary["command"]
    page = (finished_study.path / "report.html").read_text(encoding="utf-8")
    assert "tuneoff compare" in page


def test_going_on(finished_study: Any, tuneoff: Any, tmp_path: Path) -> None:
    folder, command = copied(finished_study, tmp_path)
    before = written(folder)

    again = tuneoff(*command, "--json")
    assert again.code == 0
    assert again.err == ""
    assert json.loads(again.out)["methods"][1]["name"] == "full"
    assert written(folder) == before  # a second call runs nothing

    # The same rows elsewhere are the same data, and the same content the same model.
    elsewhere = shutil.copy(finished_study.train, tmp_path / "copy.csv")
    model = shutil.copytree(finished_study.model, tmp_path / "model")
    same = tuneoff(*command, "--train", elsewhere, "--model", model)
    assert same.code == 0
    assert "3 already finished" in same.err
    assert written(folder) == before

    changed = tuneoff(*command, "--methods", "tfidf", "--class-weights", "balanced")
    assert changed.code == 0
    assert len(written(folder)) == 4  # another run, beside the old ones
    assert before.items() <= written(folder).items()
    table, _, rest = changed.out.partition("\nnote: ")
    assert "full" not in table  # it is of the study as it stands
    assert rest.startswith("runs of methods that are not in this study are kept: ")
    assert "full" in rest.partition("\n")[0]
    assert "To use it: tuneoff predict" in rest
    assert yaml.safe_load((folder / "study.yaml").read_text())["train"]["class_weights"]


def test_a_method_that_does_not_fit_the_model_ends_before_anything_runs(
    finished_study: Any, tuneoff: Any, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"model: {finished_study.model}\n"
        f"data: {{train: {finished_study.train}, test: {finished_study.test}}}\n"
        "methods: [{method: partial, k: 9}, tfidf, {method: lora, name: mine, layers: last 5}]\n"
    )
    ended = tuneoff("compare", file, "--out", tmp_path / "study")
    assert ended.code == 2
    assert "method 'partial': k is 9, but the bert encoder has 3 layers" in ended.err
    assert "method 'mine': layers is 'last 5', but the bert encoder has 3 layers" in ended.err
    assert not list((tmp_path / "study").glob("runs/*"))


def test_a_run_that_fails_is_a_record_and_the_rest_is_kept(
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
    ended = tuneoff("compare", file, "--out", tmp_path / "study")
    assert ended.code == 1
    assert "wild, seed 5: diverged: the" in ended.err
    assert "wild: 1 of 1 runs diverged" in ended.out
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
    assert summary["command"].startswith("tuneoff compare ")  # and not: tuneoff report
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert summary["command"] in page


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_fresh_on_a_terminal_shows_bars_and_leaves_it_clean(
    finished_study: Any, tmp_path: Path
) -> None:
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
    except OSError:  # how Linux says that the other end is closed
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
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
