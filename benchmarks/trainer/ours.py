"""Measure one training with tuneoff's engine, and print its figures as JSON.

python benchmarks/trainer/ours.py CASE.json
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from case import ALPHA, RANK, read_case

from tuneoff.config import DataSpec, RunSpec, TrainSpec
from tuneoff.engine.data import prepare
from tuneoff.engine.execute import run
from tuneoff.engine.model.source import find_model
from tuneoff.results.store import RunFolder
from tuneoff.scheduling.worker import load_engine


def main() -> None:
    load_engine()  # as in a study: the memory of a run does not include libraries
    case, more = read_case(Path(sys.argv[1]))
    folder = Path(more["folder"])
    model = find_model(more["model"])
    data = DataSpec(
        **{split: str(folder / f"{split}.csv") for split in ("train", "validation", "test")},
        text_pair="text_pair" if case.texts == "snli" else None,
    )
    with contextlib.redirect_stdout(sys.stderr):
        task = prepare(
            data,
            model=model.name,
            model_path=model.path,
            model_fingerprint=model.fingerprint,
            model_type=model.model_type,
            max_length=512,
            folder=folder / "data",
        )
        spec = RunSpec(
            name=case.method,
            method=case.method,
            config={"rank": RANK, "alpha": ALPHA} if "lora" in case.method else {},
            model=model.name,
            train=TrainSpec(
                epochs=case.epochs,
                batch_size=case.batch_size,
                max_length=512,
                learning_rate=case.learning_rate,
                precision=case.precision,
                device=more.get("device", "auto"),
                cuda_graphs=more.get("cuda_graphs", True),
            ),
            seed=case.seed,
            metric="macro_f1",
            data_fingerprint=task.fingerprint,
            model_fingerprint=model.fingerprint,
            task_key=task.key,
        )
        at = RunFolder(folder / "run")
        at.write_spec(spec)
        record = run(
            spec,
            at,
            task_path=folder / "data" / task.key,
            model_path=model.path,
            emit=lambda event: None,
        )
    if record.error:
        raise SystemExit(record.error)
    cost, seconds = record.cost, record.cost.train_seconds
    assert seconds is not None
    assert cost.samples_per_second is not None
    assert record.quality.test is not None
    mean = task.splits["train"].lengths.mean
    tokens = mean * task.splits["train"].rows
    result = {
        "seconds": seconds,
        "samples_per_second": case.train_rows * case.epochs / seconds,
        "tokens_per_second": tokens * case.epochs / seconds,
        "steady_samples_per_second": cost.samples_per_second,
        "steady_tokens_per_second": cost.samples_per_second * mean,
        "step_seconds": case.batch_size / cost.samples_per_second,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "macro_f1": record.quality.test.macro_f1 if case.test_rows else None,
        "flops_utilization": cost.flops_utilization,
    }
    if more.get("details"):
        result |= {"parts": cost.parts, "memory": cost.memory, "warnings": record.warnings}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
