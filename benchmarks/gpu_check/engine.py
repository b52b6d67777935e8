"""Runs of tuneoff's engine in this process, specified as by a study."""

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
from tuneoff.methods import method as registered
from tuneoff.results.record import RunRecord
from tuneoff.results.store import RunFolder


@dataclass(frozen=True)
class Material:
    """A model and a task prepared for it."""

    model: Path
    task: Task
    folder: Path
    """Folder of the prepared task."""


def prepared(folder: Path, model: Path, max_length: int, **data: Any) -> Material:
    """Prepare a task for the model in the folder `model`; `data`: settings of `DataSpec`."""
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
    """Run a method in `folder`, from its checkpoint if any; `train`: settings of `TrainSpec`."""
    found = find_model(str(material.model))
    spec = RunSpec(
        name=method,
        method=method,
        config=config or {},
        model=str(material.model),
        train=TrainSpec(**{**registered(method).train, **train}),
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
    """Call `call(step)` after each training step of this process, counted from 1."""
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
