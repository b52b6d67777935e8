"""Compare tuneoff with Transformers' Trainer: `make bench`, on a GPU `make bench-gpu`.

    python benchmarks/trainer [--data DIR] [--cases GLOB] [--quality] [--rounds N] [--out FILE]

Each side runs in a separate process, alternating, with the same rows, model, method, batch size,
epochs, learning rate and precision. The script prints the medians, and the ratio with its range
over the rounds: seconds of training from the first step to the last, peak memory by the same
definition, and the fraction of the machine's rate in plain matrix products. Other cases in FILE are
kept if they are from the same day, machine and versions.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from case import Case, model_folder, write_rows
from machine import machine

HERE = Path(__file__).parent
SIDES = ("tuneoff", "expert", "default")
TIMED = (
    *(Case("imdb", m) for m in ("full", "lora", "qlora")),
    Case("imdb", "partial", epochs=3),
    *(Case("snli", m, train_rows=1600) for m in ("full", "lora", "qlora")),
    Case("snli", "partial", train_rows=1600, epochs=3),
    *(Case("imdb", "lora", batch_size=b) for b in (8, 32)),
    *(Case("snli", "lora", batch_size=b, train_rows=1600) for b in (8, 32)),
    Case("imdb", "lora", shape="bert-base", train_rows=96),
    Case("imdb", "full", shape="distilbert", train_rows=96),
)
SCORED = (
    Case("imdb", "full", train_rows=3000, test_rows=2000, rate=5e-5),
    Case("banking77", "full", train_rows=4000, epochs=3, test_rows=3000),
    Case("banking77", "lora", train_rows=4000, epochs=3, test_rows=3000),
)
"""Cases of `--quality`, which compares the scores. The seeds are the numbers of the rounds. Reviews
have a lower learning rate, because at 2e-4 one of three seeds of the Trainer predicts one label for
all rows."""


def measure(case: Case, side: str, work: Path, data: Path | None, compiled: bool) -> dict[str, Any]:
    """Run one side once, in a separate process, and return its figures."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        write_rows(case, Path(folder), data)
        model = model_folder(case.shape, work)
        file = Path(folder) / "case.json"
        case.write(file, side=side, folder=folder, model=str(model), compile=compiled)
        script = "ours.py" if side == "tuneoff" else "peer.py"
        result = subprocess.run(
            [sys.executable, str(HERE / script), str(file)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
        )
    if result.returncode:
        raise SystemExit(f"{case.name}, {side} failed:\n{result.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def compare(case: Case, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return medians by side, and the ratios to tuneoff's figures with minimum and maximum."""
    sides = {side: _medians([r[side] for r in rounds if side in r]) for side in rounds[0]}
    ratios = {
        side: {
            key: _spread([r[side][key] / r["tuneoff"][key] for r in rounds if side in r])
            for key in ("seconds", "peak_memory_bytes")
        }
        for side in rounds[0]
        if side != "tuneoff"
    }
    return {"case": asdict(case), "sides": sides, "ratios": ratios, "rounds": rounds}


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    known = {key: [run[key] for run in runs if run[key] is not None] for key in runs[0]}
    return {key: statistics.median(values) if values else None for key, values in known.items()}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def show(found: dict[str, Any]) -> None:
    case = Case(**found["case"])
    ours = found["sides"]["tuneoff"]
    share = ours.get("flops_utilization")
    print(f"\n{case.name}, {case.train_rows} rows x {case.epochs}")
    for side, figures in found["sides"].items():
        line = (
            f"  {side:<8} {figures['seconds']:8.2f} s {figures['samples_per_second']:8.1f} rows/s"
        )
        line += f" {figures['peak_memory_bytes'] / 1e6:8.0f} MB"
        if share:  # the number of operations is the same for all sides
            line += f"  {share * ours['seconds'] / figures['seconds']:4.0%} of products"
        if figures["macro_f1"] is not None:
            scores = [r[side]["macro_f1"] for r in found["rounds"] if side in r]
            line += f"  macro-F1 {statistics.mean(scores):.4f}"
        if side != "tuneoff":
            ratio, memory = (found["ratios"][side][k] for k in ("seconds", "peak_memory_bytes"))
            line += f"  {ratio['median']:.2f}x ({ratio['least']:.2f} to {ratio['most']:.2f})"
            line += f", memory {1 / memory['median']:.2f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="folder with imdb/, snli/ and banking77/; default: random words"
    )
    parser.add_argument("--cases", default="*", help="glob over case names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument(
        "--sides", default="expert,default", help="recipes of the Trainer, separated by commas"
    )
    parser.add_argument(
        "--default-rounds", type=int, help="fewer rounds for the default recipe, the slowest"
    )
    parser.add_argument("--train-rows", type=int, help="instead of the number of the case")
    parser.add_argument("--test-rows", type=int, help="number of test rows; also measure macro-F1")
    parser.add_argument(
        "--quality", action="store_true", help="compare macro-F1 on more rows instead of speed"
    )
    parser.add_argument("--compile", action="store_true", help="torch_compile for the expert")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    known = SCORED if options.quality else TIMED
    cases = [replace(case, precision=options.precision) for case in known]
    cases = [case for case in cases if fnmatch.fnmatch(case.name, options.cases)]
    rounds_of = dict.fromkeys(["tuneoff", *options.sides.split(",")], options.rounds)
    if "default" in rounds_of and options.default_rounds is not None:
        rounds_of["default"] = options.default_rounds
    about = machine(options.precision)
    print(f"{about['processor']}, {about['threads']} threads,", end=" ")
    print(f"{about['product_rate'] / 1e12:.2f} T operations/s in {options.precision} products")
    with tempfile.TemporaryDirectory() as work:
        for plain in cases:
            case = replace(plain, test_rows=options.test_rows or plain.test_rows)
            case = replace(case, train_rows=options.train_rows or case.train_rows)
            rounds = [
                {
                    side: measure(
                        replace(case, seed=seed), side, Path(work), options.data, options.compile
                    )
                    for side, wanted in rounds_of.items()
                    if seed < wanted
                }
                for seed in range(options.rounds)
            ]
            found = compare(case, rounds)
            show(found)
            if options.out:
                keep(options.out, about, found)


def keep(file: Path, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Write the case to the file, replacing its former result and those of other machines."""
    stored = json.loads(file.read_text()) if file.is_file() else {"machine": {}, "cases": []}
    steady = about.keys() - {"product_rate"}  # measured again each time
    if any(stored["machine"].get(key) != about[key] for key in steady):
        stored = {"machine": about, "cases": []}
    others = [one for one in stored["cases"] if one["case"] != found["case"]]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(stored | {"cases": [*others, found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
