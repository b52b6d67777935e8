"""Check `tuneoff compare` and `tuneoff doctor` on the command line, with the fork server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from check import Check
from models import tiny_model, toy_file

from tuneoff.results.store import StudyFolder

METHODS, SEEDS = ("full", "lora", "head"), 2
COMMAND = [sys.executable, "-c", "from tuneoff.cli import main; main()"]


def compare(check: Check) -> None:
    """Run three methods with two seeds; then repeat the command, which has nothing left to run."""
    with check.part("tuneoff doctor"):
        check.note("doctor", _called(["doctor"])["output"][-3000:])
    model = tiny_model(check.work)
    train, test = toy_file(check.work, "study", 120), toy_file(check.work, "study-2", 60, seed=1)
    out = check.work / "study"
    arguments = ["compare", "--model", str(model), "--train", str(train), "--test", str(test)]
    arguments += ["--methods", ",".join(METHODS), "--seeds", str(SEEDS), "--epochs", "2"]
    arguments += ["--out", str(out), "--device", check.device_type]
    first = _called(arguments)
    check.note("first", first)
    check.expect(first["code"] == 0, f"exit code {first['code']}: {first['output'][-1500:]}")
    records = [record for _, record in _records(out)]
    check.expect(len(records) == len(METHODS) * SEEDS, f"{len(records)} records")
    for folder, record in _records(out):
        kind = record["train"]["device"]
        check.expect(record["status"] == "finished", f"{folder}: {record['error']}")
        check.expect(kind == check.device_type, f"{folder} ran on {kind}")
        reopened = (record["checks"] or {}).get("reopened")
        check.expect(reopened is not None, f"{folder}: its saved model was not reopened")
    if records:
        check.note("environment", records[0]["environment"])
        check.note("warnings", sorted({w for record in records for w in record["warnings"]}))
        check.note("total_seconds", [round(r["cost"]["total_seconds"], 2) for r in records])
    second = _called(arguments)
    check.note("second", second)
    check.expect(second["code"] == 0, f"again: exit code {second['code']}")
    check.summary = (
        f"{len(records)} runs in {first['seconds']:.0f} s, the same command again in"
        f" {second['seconds']:.0f} s"
    )


def _called(arguments: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    result = subprocess.run(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    return {"code": result.returncode, "seconds": seconds, "output": result.stdout[-6000:]}


def _records(out: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the record of each run, as stored on disk."""
    runs = sorted((StudyFolder(out).path / "runs").glob("*/record.json"))
    return [(file.parent.name, json.loads(file.read_text(encoding="utf-8"))) for file in runs]
