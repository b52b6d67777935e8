"""Runs of tuneoff's engine in this process, as a study would ask for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.config import DataSpec, RunSpec, TrainSpec
from tuneoff.engine.data.task import Task, open_task, prepare
from tuneoff.engine.execute import run
from tuneoff.engine.measure.meter import TrainMeter
from tuneoff.engine.model.source import find_model
from tuneoff.results.record import RunRecord
from tuneoff.results.store import RunFolder


@dataclass(frozen=True)
class Material:
    """A model and a task prepared for it."""

    model: Path
    task: Task
    folder: Path
    """Of the prepared task."""


def prepared(folder: Path, model: Path, max_length: int, **data: Any) -> Material:
    """Tokenise the rows that `data` names, settings of `DataSpec`, for the model in `model`."""
    found = find_model(str(model))
    task = prepare(
        DataSpec(**data),
        model=found.name,
        model_path=found.path,
        model_fingerprint=found.fingerprint,
        model_type=found.model_type,
        max_length=max_length,
        folder=folder,
    )
    return Material(model, open_task(folder / task.key), folder / task.key)


def run_method(
    material: Material,
    folder: Path,
    method: str,
    *,
    config: dict[str, Any] | None = None,
    own_process: bool = False,
    **train: Any,
) -> tuple[RunRecord, RunFolder]:
    """One run in `folder`, which may hold a checkpoint of it; `train`: settings of `TrainSpec`."""
    found = find_model(str(material.model))
    spec = RunSpec(
        name=method,
        method=method,
        config=config or {},
        model=str(material.model),
        train=TrainSpec(**train),
        seed=0,
        metric="macro_f1",
        data_fingerprint=material.task.record.fingerprint,
        model_fingerprint=found.fingerprint,
        task_key=material.folder.name,
    )
    at = RunFolder(folder)
    at.write_spec(spec)
    record = run(
        spec,
        at,
        task_path=material.folder,
        model_path=found.path,
        emit=lambda event: None,
        own_process=own_process,
    )
    return record, at


@contextlib.contextmanager
def after_each_step(call: Callable[[int], None]) -> Iterator[None]:
    """Let `call(step)` happen whenever a training of this process has done a step, from 1 on."""
    own, done = TrainMeter.step, 0

    def step(self: TrainMeter, samples: int, tokens: int) -> None:
        nonlocal done
        own(self, samples, tokens)
        done += 1
        call(done)

    TrainMeter.step = step  # type: ignore[method-assign]
    try:
        yield
    finally:
        TrainMeter.step = own  # type: ignore[method-assign]
