"""`compare --tune` end to end: real processes, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuneoff.results.record import RunRecord


@dataclass(frozen=True)
class Tuned:
    """A study that was tuned without interruption."""

    path: Path
    file: Path
    ended: Any


def arguments(file: Path, out: Path) -> list[Any]:
    return ["compare", file, "--tune", 3, "--tune-over", "learning_rate,rank", "--out", out]


@pytest.fixture(scope="module")
def tuned(
    tuneoff: Any, tiny_model: Any, shared_csv: Any, tmp_path_factory: pytest.TempPathFactory
) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    train, test = (shared_csv(n, seed=n, name=f"tune-{n}.csv") for n in (60, 30))
    file = folder / "study.yaml"
    file.write_text(
        f"model: {tiny_model('bert')}\n"
        f"data: {{train: {train}, test: {test}, validation: 0.3}}\n"
        "methods: [tfidf, baseline, {method: lora, rank: 2}]\n"
        "train: {epochs: 2, precision: fp32, threads: 1}\n"
        "seeds: 1\n"
    )
    ended = tuneoff(*arguments(file, folder / "study"))
    return Tuned(folder / "study", file, ended)


def trials(folder: Path) -> dict[str, Any]:
    """Return the settings and results of the trials, without times."""
    content = json.loads((folder / "trials" / "trials.json").read_text())
    for search in content["methods"]:
        for trial in search["trials"]:
            del trial["seconds"]
    found: dict[str, Any] = content
    return found


def test_search_and_comparison(tuned: Tuned) -> None:
    assert tuned.ended.code == 0, tuned.ended.err
    lines = tuned.ended.err.splitlines()
    assert sum(": started" in line and "trial" in line for line in lines) == 6
    first_run = next(i for i, line in enumerate(lines) if line.startswith("3 runs on "))
    assert not any("trial" in line for line in lines[first_run:])
    assert "Tuned: 3 trials for each method on the validation rows." in tuned.ended.out
    lines = tuned.ended.out.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith(("Report", "To use it")))


def test_trials_and_runs_have_separate_folders(tuned: Tuned) -> None:
    summary = json.loads((tuned.path / "summary.json").read_text())
    in_table = {run for row in summary["methods"] for run in row["runs"]}
    assert in_table == {path.name for path in (tuned.path / "runs").iterdir()}
    tried = {t["run_id"] for s in trials(tuned.path)["methods"] for t in s["trials"]}
    assert len(in_table) == 3
    assert not in_table & tried
    for name in tried:
        folder = tuned.path / "trials" / name
        record = RunRecord.from_plain(json.loads((folder / "record.json").read_text()))
        assert record.trial
        assert record.seed == 10_000
        assert record.quality.test is None
        assert not (folder / "predictions.parquet").exists()
        assert not (folder / "model").exists()
        log = (folder / "log.txt").read_text()
        assert "Traceback" not in log


def test_runs_use_the_settings_found(tuned: Tuned) -> None:
    searches = {s["name"]: s for s in trials(tuned.path)["methods"]}
    assert list(searches["lora"]["space"]) == ["learning_rate", "rank"]
    assert list(searches["tfidf"]["space"]) == ["c"]
    assert searches["baseline"]["trials"] == []
    for file in (tuned.path / "runs").glob("*/record.json"):
        record = RunRecord.from_plain(json.loads(file.read_text()))
        search = searches[record.method.name]
        if search["best"] is None:
            continue
        assert record.seed == 0
        settings = search["trials"][search["best"] - 1]["settings"]
        used = {**record.train, **record.method.config}
        assert {name: used[name] for name in settings} == pytest.approx(settings)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
def test_killed_search_resumes_with_the_same_trials(
    tuned: Tuned, tuneoff: Any, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from tuneoff.cli import main; main()"),
            *map(str, arguments(tuned.file, out)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
        start_new_session=True,
    )
    while len(list(out.glob("trials/*/record.json"))) < 4:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")}

    rest = arguments(tuned.file, out)
    rest[0], rest[2] = "tune", "--trials"
    again = tuneoff(*rest)
    assert again.code == 0, again.err
    assert trials(out) == trials(tuned.path)
    assert "not used" in again.out
    assert {path: path.stat().st_mtime_ns for path in there} == there  # no trial ran twice
    finished_before = int(again.err.partition(" already finished")[0].rpartition("; ")[2])
    assert finished_before == len(there) >= 4
