"""Compare tuneoff with Transformers' Trainer in BERT-base's shape, in separate processes."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from check import Check
from forked import Forked
from models import base_model, drawn_rows

from tuneoff.scheduling import bitsandbytes

TRAINER = Path(__file__).parents[1] / "trainer"
SIDES = {"tuneoff": "ours.py", "expert": "peer.py"}


def side_by_side(
    check: Check, texts: str, method: str, batch_size: int, steps: int, eager: bool = False
) -> None:
    """Measure step time, throughput and peak memory of both, after a warm-up of 10 % of the steps.

    `eager`: also measure tuneoff without CUDA graphs.
    """
    if method == "qlora":
        bitsandbytes.reveal()
    if method == "qlora" and find_spec("bitsandbytes") is None:
        check.summary = "not run: bitsandbytes is not installed"
        return
    sys.path.append(str(TRAINER))
    from case import Case

    steps = steps if check.on_gpu else 5
    case = Case(texts, method, "bert-base", batch_size, train_rows=batch_size * steps, rate=2e-5)
    check.note("case", asdict(case))
    folder = check.work / check.file.stem
    folder.mkdir(parents=True)
    small, log = not check.on_gpu, folder / "model.log"
    # In a separate process, because a process that has computed cannot be forked for the two sides.
    process = Forked(lambda: print(base_model(check.work, small=small)), log)
    outcome = process.wait(120)
    model = Path(log.read_text(encoding="utf-8").strip().splitlines()[-1])
    if not model.is_dir():
        raise RuntimeError(f"no model: {outcome}")
    _write_rows(check, texts, folder, case.train_rows)
    sides: dict[str, dict[str, Any]] = {}
    scripts = SIDES | ({"tuneoff without CUDA graphs": "ours.py"} if eager else {})
    for side, script in scripts.items():
        file = folder / f"{side}.json"
        case.write(
            file,
            side=side,
            folder=str(folder),
            model=str(model),
            device=check.device_type,
            details=True,
            cuda_graphs=side == "tuneoff",
        )
        with check.part(side):
            sides[side] = _measured(TRAINER / script, file, 60 if check.on_gpu else 600)
            check.note(side, sides[side])
    shutil.rmtree(folder)
    if sides.keys() >= SIDES.keys():
        _compare(check, sides)


def _write_rows(check: Check, texts: str, folder: Path, rows: int) -> None:
    source = drawn_rows(check.work, texts, small=not check.on_gpu)
    for split in ("train", "validation", "test"):
        frame = pd.read_csv(source / f"{split}.csv")
        if split == "train":
            frame = pd.concat([frame] * -(-rows // len(frame)), ignore_index=True).iloc[:rows]
        frame.to_csv(folder / f"{split}.csv", index=False)


def _measured(script: Path, file: Path, seconds: float) -> dict[str, Any]:
    """Run `script` for the case in `file`, and return the JSON of its last line."""
    process = Forked(lambda: _script(script, file), file.with_suffix(".log"))
    outcome = process.wait(seconds)
    lines = process.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    sys.stderr.write("\n".join(lines) + "\n")
    try:
        result: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise RuntimeError("\n".join([outcome, *lines[-15:]])[-1500:]) from None
    return result


def _script(script: Path, file: Path) -> None:
    sys.argv = [str(script), str(file)]
    runpy.run_path(str(script), run_name="__main__")


def _compare(check: Check, sides: dict[str, dict[str, Any]]) -> None:
    ours, theirs = sides["tuneoff"], sides["expert"]
    speed = ours["steady_samples_per_second"] / theirs["steady_samples_per_second"]
    memory = ours["peak_memory_bytes"] / theirs["peak_memory_bytes"]
    check.note("times_as_fast", speed)
    check.note("memory_ratio", memory)
    steps = ", ".join(
        f"{side} {found['step_seconds'] * 1e3:.1f} ms {found['peak_memory_bytes'] / 1e6:,.0f} MB"
        for side, found in sides.items()
    )
    check.summary = f"{speed:.2f}x, memory {memory:.2f} ({steps})"
    if ours["flops_utilization"]:
        check.summary += f", {ours['flops_utilization']:.0%} of products"
