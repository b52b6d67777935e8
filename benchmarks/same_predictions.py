"""Compare the predictions of every method at two commits, bit for bit.

    python benchmarks/same_predictions.py BASE [--seeds 2] [--methods lora full]

Use it for changes that must not change numbers, such as moved or renamed code. The working tree is
compared with BASE. Both run the same study on this machine with the installed versions of the
libraries: docstrings of the installed packages, the embedded MiniLM, one epoch. The exit code is 1
if a probability differs or a run is missing. It takes about four minutes per seed on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
TRAIN_ROWS, TEST_ROWS = 240, 120


def study_file(folder: Path, methods: list[str], seeds: int) -> Path:
    from tuneoff.demo import write_docstrings
    from tuneoff.engine.model.embedded import EMBEDDED_ID

    train, test = write_docstrings(folder / "data", train_rows=TRAIN_ROWS, test_rows=TEST_ROWS)
    study = {
        "model": EMBEDDED_ID,
        "data": {"train": str(train), "test": str(test), "group": "module"},
        "methods": methods,
        "seeds": seeds,
        "train": {"epochs": 1, "max_length": 48, "batch_size": 16},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(study), encoding="utf-8")  # JSON is YAML
    return path


def predictions(source: Path, study: Path, out: Path) -> dict[str, Path]:
    """Run the study with the package in `source`; return each run's file by method and seed."""
    command = [sys.executable, "-P", "-m", "tuneoff", "compare", str(study), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    files = sorted(out.glob("runs/*/predictions.parquet"))
    return {file.parent.name.rpartition("-")[0]: file for file in files}


def main() -> int:
    from tuneoff.methods import methods

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="commit to compare the working tree with")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(methods()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = folder / "base"
        subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", base, options.base],
            check=True,
        )
        try:
            study = study_file(folder, options.methods, options.seeds)
            before = predictions(base / "src", study, folder / "before")
            after = predictions(ROOT / "src", study, folder / "after")
        finally:
            subprocess.run(
                ["git", "-C", str(ROOT), "worktree", "remove", "--force", base], check=True
            )
        different = [
            run
            for run in sorted(before.keys() | after.keys())
            if run not in before
            or run not in after
            or not pq.read_table(before[run]).equals(pq.read_table(after[run]))
        ]
    expected = len(options.methods) * options.seeds
    print(f"{len(before)} runs before, {len(after)} after; predictions differ in {len(different)}")
    for run in different:
        print(f"  {run}")
    return int(bool(different) or len(before) < expected - options.seeds + 1)


if __name__ == "__main__":
    sys.exit(main())
