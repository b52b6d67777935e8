"""Compare the time of a study with that of the same runs in Transformers' Trainer.

    python benchmarks/trainer/study.py [--data DIR] [--train-rows N] [--workers N] [--out FILE]

The study has eight methods, two seeds and three epochs, on pairs with the lengths of SNLI.
`tuneoff compare` is measured from the command to its report, with one run on each core
(`--workers`). The sixteen scripts run one after another with the expert recipe and all cores, each
measured from its start to the scores on the test rows. Both validate after each epoch. tuneoff also
saves sixteen models, opens them again to compare their logits, and writes the report; the scripts
save nothing.
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
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if result.returncode:
        raise SystemExit(f"{command} failed:\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}")
    return time.perf_counter() - start


def by_tuneoff(case: Case, folder: Path, model: Path, workers: int) -> float:
    """Return the seconds of `tuneoff compare` with all methods and seeds."""
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
    """Return the seconds of each script by method and seed."""
    found = {}
    for name in METHODS:
        for seed in SEEDS:
            one, file = replace(case, method=name, seed=seed), folder / f"{name}-{seed}.json"
            one.write(file, side="expert", folder=str(folder), model=str(model), validate=True)
            found[f"{name} {seed}"] = seconds_of([sys.executable, str(HERE / "peer.py"), str(file)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with snli/; default: random words")
    parser.add_argument("--train-rows", type=int, default=800)
    parser.add_argument("--test-rows", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--workers",
        type=int,
        help="concurrent runs of tuneoff; default: one on a GPU, one per core on a CPU",
    )
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    case = Case(
        "snli", "full", train_rows=options.train_rows, epochs=3, test_rows=options.test_rows
    )
    case = replace(case, precision=options.precision)
    about, rounds = machine(options.precision), []
    workers = options.workers or (1 if torch.cuda.is_available() else available_cores())
    print(
        f"{about['processor']}, {about['threads']} threads; {case.train_rows} rows x {case.epochs}"
    )
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as work:
            folder, model = Path(work), model_folder(case.shape, Path(work))
            write_rows(case, folder, options.data)
            ours = by_tuneoff(case, folder, model, workers)
            scripts = by_trainer(case, folder, model)
        theirs = sum(scripts.values())
        print(f"tuneoff {ours:.0f} s, {len(scripts)} scripts {theirs:.0f} s: {theirs / ours:.2f}x")
        rounds.append({"tuneoff": ours, "scripts": scripts, "ratio": theirs / ours})
        if options.out:
            found = {"machine": about, "workers": workers, "rounds": rounds}
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
