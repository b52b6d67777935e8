"""tuneoff beside Transformers' Trainer in BERT-base's shape, each side in its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from check import Check
from models import base_model, drawn_rows

TRAINER = Path(__file__).parents[1] / "trainer"
SIDES = {"tuneoff": "ours.py", "expert": "peer.py"}


def side_by_side(check: Check, texts: str, method: str, batch_size: int, steps: int) -> None:
    """Step time, throughput and peak memory of both; the first tenth of the steps is warm-up."""
    if method == "qlora" and find_spec("bitsandbytes") is None:
        check.summary = "not run: bitsandbytes is not installed"
        return
    sys.path.append(str(TRAINER))
    from case import Case

    steps = steps if check.on_gpu else 5
    case = Case(texts, method, "bert-base", batch_size, train_rows=batch_size * steps, rate=2e-5)
    check.note("case", asdict(case))
    model = base_model(check.work, small=not check.on_gpu)
    folder = check.work / check.file.stem
    _write_rows(check, texts, folder, case.train_rows)
    sides: dict[str, dict[str, Any]] = {}
    for side, script in SIDES.items():
        file = folder / f"{side}.json"
        case.write(
            file,
            side=side,
            folder=str(folder),
            model=str(model),
            device=check.device_type,
            details=True,
        )
        with check.part(side):
            sides[side] = _measured(TRAINER / script, file)
            check.note(side, sides[side])
    shutil.rmtree(folder)
    if len(sides) == len(SIDES):
        _compare(check, sides)


def _write_rows(check: Check, texts: str, folder: Path, rows: int) -> None:
    source = drawn_rows(check.work, texts, small=not check.on_gpu)
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        frame = pd.read_csv(source / f"{split}.csv")
        if split == "train":
            frame = pd.concat([frame] * -(-rows // len(frame)), ignore_index=True).iloc[:rows]
        frame.to_csv(folder / f"{split}.csv", index=False)


def _measured(script: Path, file: Path) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, str(script), str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    sys.stderr.write(ended.stderr)
    if ended.returncode:
        raise RuntimeError("\n".join(ended.stderr.strip().splitlines()[-15:])[-1500:])
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


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
