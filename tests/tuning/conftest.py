"""A launcher without processes, whose scores depend on the learning rate only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from tuneoff.config import RunSpec
from tuneoff.methods import method
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import Cost, DataInfo, MethodInfo, Quality, RunRecord, Scores, Status
from tuneoff.results.store import RunFolder
from tuneoff.scheduling import Prepared
from tuneoff.scheduling.launcher import Exit


def scores(value: float) -> Scores:
    metrics = dict.fromkeys(QUALITY_METRICS, value) | {"log_loss": 1 - value, "ece": 0.0}
    return Scores(metrics, {}, [[1]])


class Graded(nullcontext[Any]):
    """A launcher whose score is highest at the learning rate 1e-3 and falls by 0.1 per decade.

    A run reaches half of its score after epoch 1, and all of it after epoch 2. It respects the
    pruning thresholds of its trial.
    """

    workers = 2

    def __init__(self, prepared: Prepared, dies_at: int | None = None) -> None:
        super().__init__()
        self.prepared = prepared
        self.dies_at = dies_at
        """Number of the run at which the search is interrupted."""
        self.ran: list[RunSpec] = []

    def prepare(self, *_: Any) -> Prepared:
        return self.prepared

    def run(
        self, spec: RunSpec, folder: RunFolder, prepared: Prepared, watch: Callable[..., None]
    ) -> Exit:
        if self.dies_at is not None and len(self.ran) >= self.dies_at:
            raise KeyboardInterrupt
        self.ran.append(spec)
        rate: Any = spec.train.learning_rate
        if rate == "auto":
            rate = method(spec.method).rate_for(prepared.hidden_size)
        value = 0.9 - 0.1 * abs(math.log10((rate or 1.0) / 1e-3))
        floors = spec.trial.floors if spec.trial else ()
        pruned = bool(floors) and value / 2 < floors[0]
        rows = [(1.0, value / 2)] if pruned else [(1.0, value / 2), (2.0, value)]
        folder.history_file.write_text(
            "".join(
                json.dumps({"kind": "validation", "epoch": epoch, spec.metric: score}) + "\n"
                for epoch, score in rows
            )
        )
        folder.write_record(
            RunRecord(
                run_id=spec.run_id,
                status=Status.PRUNED if pruned else Status.FINISHED,
                method=MethodInfo(spec.name, spec.method, "selective", spec.config),
                seed=spec.seed,
                model=spec.model,
                metric=spec.metric,
                data=DataInfo("d", 1200, 1200, 0 if spec.trial else 1200, ["a", "b"]),
                train={"learning_rate": rate},
                quality=Quality()
                if pruned
                else Quality(validation=scores(value), test=None if spec.trial else scores(value)),
                cost=Cost(total_seconds=2.0),
                trial=spec.trial is not None,
            )
        )
        return Exit(0, False, False)

    def close(self, grace: float = 0.0) -> None:
        """Do nothing."""


@pytest.fixture
def graded(prepared: Prepared) -> Callable[..., Graded]:
    return partial(Graded, prepared)
