"""The same spec gives the same result in new processes; `make determinism` starts ten."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROCESSES = int(os.environ.get("TUNEOFF_PROCESSES", "10"))

RUN = """
import sys
from pathlib import Path
from tuneoff.engine.execute import run
from tuneoff.results.store import RunFolder
folder, task, model = map(Path, sys.argv[1:])
kept = RunFolder(folder)
run(kept.spec(), kept, task_path=task, model_path=model, emit=lambda event: None)
"""


def digest(folder: Any) -> str:
    """Return a hash of a run's predictions, weights and scores."""
    record = folder.record()
    assert record.status == "finished", record.error
    found = hashlib.sha256(folder.predictions().to_csv(float_format="%.17g").encode())
    for file in sorted(folder.model.glob("*.safetensors")):
        found.update(file.read_bytes())
    found.update(json.dumps(record.to_plain()["quality"]).encode())
    return found.hexdigest()


def answer(made: Any, path: Path) -> str:
    """Run the spec of `made` in a new process, and return its `digest`."""
    folder = type(made.folder)(path)
    folder.write_spec(made.folder.spec())
    task = made.task.splits["train"].path.parent
    # Each process has another hash seed for strings, so the order of sets must not matter.
    subprocess.run([sys.executable, "-c", RUN, path, task, made.model], check=True)
    return digest(folder)


@pytest.mark.parametrize(
    ("method", "processes"),
    [
        ("lora", 1),
        *(pytest.param(m, PROCESSES, marks=pytest.mark.long) for m in ("full", "lora", "tfidf")),
    ],
)
def test_new_processes_give_the_same_result(
    run_toy: Any, tmp_path: Path, method: str, processes: int
) -> None:
    made = run_toy(method, epochs=1, threads=1)
    found = {answer(made, tmp_path / "fresh" / str(i)) for i in range(processes)}
    assert found == {digest(made.folder)}
