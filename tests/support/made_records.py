"""Records and predictions with numbers that can be verified by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.summary import summarize
from tuneoff.config import DataSpec, MethodSpec, StudySpec
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import (
    ClassScores,
    Cost,
    DataInfo,
    MethodInfo,
    Parameters,
    Quality,
    RunRecord,
    Scores,
    Status,
    TaskRecord,
)
from tuneoff.results.store import StudyFolder, write_json

FAMILIES = {"tfidf": "classical", "baseline": "baseline"}


def make_study(*methods: str, seeds: int = 3, metric: str = "macro_f1") -> StudySpec:
    return StudySpec(
        model="sentence-transformers/all-MiniLM-L6-v2",
        data=DataSpec(train="train.csv"),
        methods=tuple(MethodSpec(method=name.partition("-")[0], name=name) for name in methods),
        seeds=tuple(range(seeds)),
        metric=metric,
    )


def make_record(
    name: str,
    seed: int,
    score: float | None = None,
    *,
    status: Status = Status.FINISHED,
    error: str | None = None,
    trainable: int = 22_713_986,
    **cost: Any,
) -> RunRecord:
    """Return a finished run whose metrics are all `score`, or one with another status."""
    scores = None
    if score is not None:
        each = {label: ClassScores(score, score, score, 50) for label in ("no", "yes")}
        scores = Scores(dict.fromkeys(QUALITY_METRICS, score), each, [[40, 10], [10, 40]])
    costs: dict[str, Any] = {
        "train_seconds": 102.3,
        "samples_per_second": 1204.4,
        "peak_memory_bytes": 812_000_000,
        "storage_bytes": 90_900_000,
    } | cost
    method = name.partition("-")[0]
    return RunRecord(
        run_id=f"{name}-s{seed}-00000000",
        status=status,
        method=MethodInfo(name, method, FAMILIES.get(method, "selective"), {}),
        seed=seed,
        model="sentence-transformers/all-MiniLM-L6-v2",
        metric="macro_f1",
        data=DataInfo("f" * 64, 800, 90, 100, ["no", "yes"]),
        train={},
        parameters=Parameters(
            22_713_986, trainable, max(trainable - 770, 0), min(trainable, 770),
            100 * trainable / 22_713_986,
        ) if scores else None,
        quality=Quality(scores, scores),
        cost=Cost(**costs) if scores else Cost(),
        environment={"python": "3.11", "cores": 2},
        error=error,
    )  # fmt: skip


@pytest.fixture
def study() -> Callable[..., StudySpec]:
    return make_study


@pytest.fixture
def record() -> Callable[..., RunRecord]:
    return make_record


ROWS = 2000


def make_answers(score: float, seed: int, rows: int = ROWS) -> RunPredictions:
    """Return predictions with this number of correct rows; runs share nine of ten errors."""
    wrong = round((1 - score) * rows)
    shared = np.random.default_rng(7).permutation(rows)
    own = np.random.default_rng(1000 + seed).permutation(rows)
    places = np.concatenate([shared[: wrong - wrong // 10], own[: wrong // 10]])
    labels = np.arange(rows) % 2
    predictions = labels.copy()
    predictions[places] = 1 - labels[places]
    return RunPredictions(np.arange(rows), labels, predictions, np.ones(rows))


@pytest.fixture
def answers() -> Callable[..., RunPredictions]:
    return make_answers


@pytest.fixture
def judged() -> Callable[..., dict[str, Any]]:
    """`judged({"full": (0.9, {"train_seconds": 9.0})}, …)`: the summary of a study."""

    def make(
        methods: dict[str, tuple[float, dict[str, Any]]],
        *,
        seeds: int = 3,
        rows: int = ROWS,
        **settings: Any,
    ) -> dict[str, Any]:
        records, predictions = [], {}
        for place, (name, (score, cost)) in enumerate(methods.items()):
            for seed in range(seeds):
                made = make_record(name, seed, score + 0.0005 * seed, **cost)
                records.append(made)
                shown = make_answers(score + 0.0005 * seed, 10 * place + seed, rows)
                predictions[made.run_id] = shown
        asked = make_study(*methods, seeds=seeds, metric="accuracy")
        asked = StudySpec(**{**vars(asked), **settings})
        return summarize(asked, None, records, predictions, Path("studies/my study"))

    return make


def write_task(folder: StudyFolder, task: TaskRecord) -> None:
    """Write the record of a prepared task into the folder of a study."""
    write_json(folder.data / task.key / "task.json", task.to_plain())
