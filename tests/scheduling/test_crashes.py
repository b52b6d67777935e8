"""A study that is killed at a random moment and resumed has the result of an uninterrupted one.

The study has all method families. Table, weights and predictions are compared bit for bit.
`make crash-test` repeats this 50 times (or TUNEOFF_CRASHES times), about 40 s of one core each.
`test_deaths` kills one run in every run of the tests.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tuneoff.results.record import Status
from tuneoff.results.store import StudyFolder

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="workers fork"),
]

CRASHES = int(os.environ.get("TUNEOFF_CRASHES", "50"))
"""Number of studies that are killed."""

FAMILIES = ["tfidf", "baseline", "full", "weighted", "lora", "adalora", "ia3", "adapter", "prefix"]
FAMILIES += ["qlora"] if find_spec("bitsandbytes") else []

TIMED = ("cost", "environment", "log_file")
"""Fields that differ between runs: times, memory, the machine's state."""


@pytest.fixture(scope="module")
def study_file(tiny_model: Any, shared_csv: Any, tmp_path_factory: Any) -> Path:
    """Write a study with ten checkpoints per second."""
    file: Path = tmp_path_factory.mktemp("crashes") / "asked.yaml"
    content = {
        "model": str(tiny_model("bert")),
        "data": {"train": str(shared_csv(60, name="crashes.csv"))},
        "methods": FAMILIES,
        "seeds": 1,
        "train": {"threads": 1, "precision": "fp32", "epochs": 4, "checkpoint_seconds": 0.1},
    }
    file.write_text(yaml.safe_dump(content))
    return file


def start(file: Path, out: Path) -> subprocess.Popen[str]:
    command = "from tuneoff.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", command, "compare", str(file), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(file: Path, out: Path) -> float:
    """Run the study to its end, and return the seconds."""
    began = time.monotonic()
    desk = start(file, out)
    said, _ = desk.communicate()
    assert desk.returncode == 0, said
    return time.monotonic() - began


def adapter_settings(file: Path) -> dict[str, Any]:
    """Return PEFT's settings without the folder's path; the order of sets is arbitrary."""
    plain = json.loads(file.read_text())
    del plain["base_model_name_or_path"]
    return {key: sorted(v) if isinstance(v, list) else v for key, v in plain.items()}


def answers(out: Path) -> dict[str, Any]:
    """Return all results of a study by path: scores, predictions, and models byte for byte."""
    folder = StudyFolder(out)
    found: dict[str, Any] = {}
    for run in folder.runs():
        record = run.record()
        assert record is not None
        assert record.status == Status.FINISHED, record.error
        plain = {key: value for key, value in record.to_plain().items() if key not in TIMED}
        plain["deviations"].pop("frozen_prefix", None)  # contains seconds
        found |= {f"{record.method.name}/record/{key}": plain[key] for key in plain}
        found[f"{record.method.name}/predictions"] = run.predictions().to_csv(float_format="%.17g")
        for file in sorted(run.model.rglob("*")):
            if file.is_file():
                name = f"{record.method.name}/{file.relative_to(run.model)}"
                found[name] = file.read_bytes()
                if file.name == "adapter_config.json":
                    found[name] = adapter_settings(file)
        assert not run.checkpoint.exists()
    summary = folder.summary()
    assert summary is not None
    for row in summary["methods"]:
        found[f"{row['name']}/table"] = row["quality"]
    found["pairs"] = summary.get("pairs")
    return found


@pytest.fixture(scope="module")
def whole(study_file: Path, tmp_path_factory: Any) -> tuple[dict[str, Any], float]:
    """Results of the uninterrupted study, and its seconds."""
    out = tmp_path_factory.mktemp("whole")
    seconds = finish(study_file, out)
    return answers(out), seconds


def kill_after(seconds: float, file: Path, out: Path) -> bool:
    """Start the study, kill all its processes at once, and return whether it was still running."""
    desk = start(file, out)
    time.sleep(seconds)
    at_work = desk.poll() is None
    with suppress(psutil.NoSuchProcess):
        everyone = [*psutil.Process(desk.pid).children(recursive=True), psutil.Process(desk.pid)]
        for process in everyone:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    desk.communicate()
    return at_work


@pytest.mark.parametrize("crash", range(CRASHES))
def test_killed_study_equals_uninterrupted_study(
    study_file: Path, whole: tuple[dict[str, Any], float], tmp_path: Path, crash: int
) -> None:
    expected, seconds = whole
    draw = random.Random(crash)
    out, attempt = tmp_path / "study", 0
    while not kill_after(draw.uniform(0.0, seconds * 0.9**attempt), study_file, out):
        attempt += 1
        for file in sorted(out.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    finish(study_file, out)
    found = answers(out)
    assert found.keys() == expected.keys()
    differ = [name for name in expected if found[name] != expected[name]]
    told = {x: (expected[x], found[x]) for x in differ if "/record/" in x}
    assert not differ, f"{differ}\n{told}"
