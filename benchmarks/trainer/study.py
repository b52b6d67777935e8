"""A whole study against the same runs one after another in Transformers' Trainer.

    python benchmarks/trainer/study.py [--data DIR] [--train-rows N] [--workers N] [--out FILE]

Eight methods, two seeds, three epochs, on pairs as long as SNLI's: `tuneoff compare`, from the
command to its report, with a run at work on each core (`--workers`), beside sixteen scripts with
the expert's flags and all cores for each, from its start to the scores on the test rows. Both
validate after each epoch. tuneoff saves sixteen models, opens each again to compare its logits, and
writes the report, too; the scripts save nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from case import ALPHA, LEARNING_RATES, RANK, Case, model_folder, write_rows
from machine import machine

from tuneoff.scheduling import available_cores

METHODS = ("head", "partial", "bitfit", "full", "weighted", "lora", "qlora", "ia3")
SEEDS = (0, 1)
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if ended.returncode:
        raise SystemExit(f"{command} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-3000:]}")
    return time.perf_counter() - start


def by_tuneoff(case: Case, folder: Path, model: Path, workers: int) -> float:
    """Seconds of `tuneoff compare` over all methods and seeds."""
    ours = {"lora": {"rank": RANK, "alpha": ALPHA}, "qlora": {"rank": RANK, "alpha": ALPHA}}
    methods = [
        {"method": name, "learning_rate": LEARNING_RATES[name]} | ours.get(name, {})
        for name in METHODS
    ]
    train = {"epochs": case.epochs, "batch_size": case.batch_size, "precision": case.precision}
    study = {
        "model": str(model),
        "data": {s: str(folder / f"{s}.csv") for s in ("train", "validation", "test")}
        | {"text_pair": "text_pair"},
        "methods": methods,
        "train": train,
        "seeds": list(SEEDS),
    }
    file = folder / "study.yaml"
    file.write_text(json.dumps(study))  # JSON is YAML
    program = Path(sys.executable).with_name("tuneoff")
    command = [str(program), "compare", str(file), "--out", str(folder / "study")]
    return seconds_of([*command, "--workers", str(workers)])


def by_trainer(case: Case, folder: Path, model: Path) -> dict[str, float]:
    """Seconds of each script by method and seed."""
    found = {}
    for name in METHODS:
        for seed in SEEDS:
            one, file = replace(case, method=name, seed=seed), folder / f"{name}-{seed}.json"
            one.write(file, side="expert", folder=str(folder), model=str(model), validate=True)
            found[f"{name} {seed}"] = seconds_of([sys.executable, str(HERE / "peer.py"), str(file)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with snli/; default: drawn rows")
    parser.add_argument("--train-rows", type=int, default=800)
    parser.add_argument("--test-rows", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--workers", type=int, help="runs of tuneoff at once; default: one, on a CPU one per core"
    )
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    case = Case("snli", "full", train_rows=asked.train_rows, epochs=3, test_rows=asked.test_rows)
    case = replace(case, precision=asked.precision)
    about, rounds = machine(asked.precision), []
    workers = asked.workers or (1 if torch.cuda.is_available() else available_cores())
    print(
        f"{about['processor']}, {about['threads']} threads; {case.train_rows} rows x {case.epochs}"
    )
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as work:
            folder, model = Path(work), model_folder(case.shape, Path(work))
            write_rows(case, folder, asked.data)
            ours = by_tuneoff(case, folder, model, workers)
            scripts = by_trainer(case, folder, model)
        theirs = sum(scripts.values())
        print(f"tuneoff {ours:.0f} s, {len(scripts)} scripts {theirs:.0f} s: {theirs / ours:.2f}x")
        rounds.append({"tuneoff": ours, "scripts": scripts, "ratio": theirs / ours})
        if asked.out:
            found = {"machine": about, "workers": workers, "rounds": rounds}
            asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
