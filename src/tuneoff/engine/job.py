"""State of a run: its resolved settings and its results so far."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tuneoff.config import RunSpec
from tuneoff.engine.data.task import Split, Task
from tuneoff.engine.measure.profile import Trace
from tuneoff.engine.measure.quality import score
from tuneoff.engine.model.precision import Precision
from tuneoff.methods.base import Method
from tuneoff.results.record import Checks, Cost, DataInfo, Parameters, Quality
from tuneoff.results.store import RunFolder

Answers = dict[str, npt.NDArray[np.float32]]
"""(rows, labels) probabilities by split."""


@dataclass(frozen=True)
class Job:
    """A run with resolved settings."""

    spec: RunSpec
    folder: RunFolder
    task: Task
    method: Method
    config: Any
    device: torch.device
    precision: Precision
    learning_rate: float | None
    model_path: Path
    whole: Split | None = None
    """All training rows if the task is an excerpt for a forecast; for encoders only."""
    trace: Trace | None = None
    """Profiler; for encoders only."""

    @property
    def identity(self) -> str:
        """Identifies hidden states of frozen layers, with the task and the number of layers."""
        kind = "nf4" if self.method.quantized else "whole"
        tf32 = "tf32" if self.device.type == "cuda" and self.spec.train.tf32 else "ieee"
        how = f"{self.precision} {tf32} {self.device.type}"
        return f"{self.spec.model_fingerprint} {kind} {how}"


@dataclass
class Outcome:
    """Results of a run so far. What a failed run has not computed is None."""

    parameters: Parameters | None = None
    quality: Quality = field(default_factory=Quality)
    cost: Cost = field(default_factory=Cost)
    best_epoch: int | None = None
    deviations: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    checks: Checks | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    step_seconds: dict[str, float] = field(default_factory=dict)
    """Time of the training steps by part."""

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def scored(task: Task, answers: Answers) -> Quality:
    """Return the scores of each predicted split."""
    by_split = {
        name: score(task.splits[name], probabilities, task.labels)
        for name, probabilities in answers.items()
    }
    return Quality(**by_split)


def data_info(task: Task) -> DataInfo:
    """Return the description of the data for the record."""
    splits = task.splits
    return DataInfo(
        fingerprint=task.record.fingerprint,
        train_rows=len(splits["train"].positions),
        validation_rows=len(splits["validation"]),
        test_rows=len(splits["test"]) if "test" in splits else 0,
        labels=task.labels,
    )


def write_predictions(folder: RunFolder, task: Task, answers: Answers) -> None:
    """Write `predictions.parquet` with all rows of the predicted splits."""
    tables = []
    for name, probabilities in answers.items():
        split = task.splits[name]
        labels = np.array(task.labels, dtype=object)
        columns: dict[str, Any] = {
            "split": name,
            "row": split.rows,
            "label": labels[split.labels],
            "prediction": labels[probabilities.argmax(1)],
        }
        columns |= {f"probability_{x}": probabilities[:, i] for i, x in enumerate(task.labels)}
        tables.append(pd.DataFrame(columns | {"weight": split.weights}))
    folder.write_predictions(pd.concat(tables, ignore_index=True))
