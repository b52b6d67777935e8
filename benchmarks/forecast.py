"""Measure the accuracy of forecasts: forecast small studies, run them, and compare the costs.

python benchmarks/forecast.py [--data FOLDER] [--studies snli,imdb] [--methods full,lora] …

FOLDER contains `snli/` and `imdb/`. Without it, texts of the same lengths are made of random words.
With `--processor-seconds` all times are processor times, without the time of disk accesses. Use
it on machines that are shared with other programs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "trainer"))

from case import Case, model_folder, write_rows

from tuneoff.config import parse_study
from tuneoff.display.progress import watcher
from tuneoff.forecasting.actual import COMPARED
from tuneoff.forecasting.estimate import forecast_study
from tuneoff.results.store import StudyFolder
from tuneoff.scheduling import launcher
from tuneoff.scheduling.plan import complete
from tuneoff.scheduling.study import run_study

ROWS = {"snli": (800, 200), "imdb": (160, 64)}
"""Number of training and test rows of each study."""

METHODS = "full,partial,lora,ia3,head,tfidf"
TOLERANCES = {"peak_memory_bytes": 0.15, "train_seconds": 0.20, "total_seconds": 0.20}

CLOCK = "import time\ntime.perf_counter = time.process_time\n"
"""Used as `sitecustomize` of the workers; all times are differences within a process."""


def main() -> None:
    asked = arguments()
    shape, _, length = asked.shape.partition(":")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if asked.processor_seconds:
            (folder / "sitecustomize.py").write_text(CLOCK)
            known = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = os.pathsep.join([scratch, *([known] if known else [])])
        model = model_folder(shape, folder)
        lines = []
        for texts in asked.studies.split(","):
            train, test = asked.rows or ROWS[texts]
            at = folder / texts
            at.mkdir()
            write_rows(Case(texts, "full", train_rows=train, test_rows=test), at, asked.data)
            found = one_study(texts, at, str(model), asked, int(length or 256))
            for line in found:
                print(json.dumps(line), flush=True)
            lines += found
        show(lines)
        if asked.out:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            asked.out.write_text("".join(json.dumps(line) + "\n" for line in lines))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--studies", default="snli,imdb")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument(
        "--shape",
        default="minilm",
        help="shape of the model, optionally with the maximum length: minilm:256",
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs=2, metavar=("TRAIN", "TEST"))
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--processor-seconds", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON lines")
    return parser.parse_args()


def one_study(
    texts: str, at: Path, model: str, asked: argparse.Namespace, length: int
) -> list[dict[str, Any]]:
    """Return the forecast and the actual value of each cost, for each run."""
    files = {split: str(at / f"{split}.csv") for split in ("train", "validation", "test")}
    pair = {"text_pair": "text_pair"} if texts == "snli" else {}
    train = {"epochs": asked.epochs, "max_length": length, "precision": asked.precision}
    study = complete(
        parse_study(
            {
                "model": model,
                "data": files | pair,
                "methods": asked.methods.split(","),
                "train": train,
                "seeds": [0],
            }
        )
    )
    folder = StudyFolder(at / "study")
    with launcher() as launch, watcher() as watch:
        forecast = forecast_study(study, folder, launcher=launch, watch=watch)
        _, records = run_study(study, folder, launcher=launch, watch=watch)
    expected = {m["name"]: m for m in forecast["methods"]}
    totals = {r["run_id"]: r["total_seconds"] for r in forecast["runs"]}
    found = []
    for record in records:
        own = expected[record.method.name] | {"total_seconds": totals[record.run_id]}
        costs = {k: {"forecast": own[k], "actual": getattr(record.cost, k)} for k in COMPARED}
        disk = sum(
            f.lstat().st_size
            for f in folder.run(record.run_id).path.rglob("*")
            if f.is_file() and not f.is_symlink()
        )
        costs["disk_bytes"] = {"forecast": own["disk_bytes"], "actual": disk}
        found.append({"study": texts, "method": record.method.name, **costs})
    return found


def show(lines: list[dict[str, Any]]) -> None:
    """Print forecast / actual, and the number of runs within the tolerances."""
    keys = (*COMPARED, "disk_bytes")
    heads = ("training", "in all", "memory", "storage", "on disk")
    print(f"\n{'forecast / actual':<20}" + "".join(f"{head:>10}" for head in heads))
    for line in lines:
        ratios = [ratio(line[key]) for key in keys]
        cells = "".join(f"{'–' if r is None else f'{r:.2f}':>10}" for r in ratios)
        print(f"{line['study']:<8}{line['method']:<12}{cells}")
    for key, tolerance in TOLERANCES.items():
        known = [r for line in lines if (r := ratio(line[key])) is not None]
        within = sum(abs(r - 1) <= tolerance for r in known)
        print(f"{key}: {within} of {len(known)} runs within {tolerance:.0%}")


def ratio(cost: dict[str, float | None]) -> float | None:
    expected, actual = cost["forecast"], cost["actual"]
    return expected / actual if expected is not None and actual else None


if __name__ == "__main__":
    main()
