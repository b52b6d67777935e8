"""Studies for the audit: rows prepared and split by the engine, with generated predictions.

The predictions have a given accuracy and replace the training. By default, the audit finds nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.audit import Finding, audit, collect
from tuneoff.config import RunSpec, StudySpec, parse_study, replace_train
from tuneoff.engine.data.task import Task, open_task, prepare
from tuneoff.engine.measure.quality import score
from tuneoff.methods import methods
from tuneoff.results.record import (
    Cost,
    DataInfo,
    MethodInfo,
    Parameters,
    Quality,
    RunRecord,
    Status,
    TaskRecord,
)
from tuneoff.results.store import StudyFolder
from tuneoff.scheduling.plan import complete

Row = dict[str, str]
Edit = Callable[[RunRecord], RunRecord]

LABELS = ("maybe", "no", "yes")
WORDS = ("cat", "dog", "bird", "horse", "bread", "milk", "soup", "rain", "snow", "wind")
ACCURACY = {"full": 0.95, "lora": 0.93, "head": 0.80, "tfidf": 0.70, "baseline": 1 / 3}
BODY, HEAD, ADDED = 20_000, 770, 1_000
HISTORY = ((1, 0.80), (2, 0.90), (3, 0.905))
"""Macro-F1 on validation after each epoch, which has converged."""
MACHINE = {
    "processor": "one",
    "cores": 2,
    "threads": 2,
    "device": "cpu",
    "preload": "nothing",
    "torch": "2.13",
}


def rows(count: int, start: int = 0) -> list[Row]:
    """Return distinct texts: the digits of a number, each as a word."""
    return [
        {
            "text": " ".join(WORDS[int(digit)] for digit in f"{start + i:05d}"),
            "label": LABELS[i % len(LABELS)],
        }
        for i in range(count)
    ]


@dataclass(frozen=True)
class AuditedStudy:
    """A study on disk, and the findings of its audit."""

    folder: StudyFolder
    study: StudySpec
    task: TaskRecord
    records: list[RunRecord]

    def audit(self) -> list[Finding]:
        return audit(collect(self.folder, self.study, self.task, self.records))

    def found(self) -> dict[str, Finding]:
        return {finding.code: finding for finding in self.audit()}


Make = Callable[..., AuditedStudy]


@pytest.fixture
def make_study(tmp_path: Path, tiny_model: Callable[..., Path]) -> Make:
    """`make_study(train=…, test=…, validation=…, methods=…, accuracy=…, edit=…)`: write a study.

    `train` is a list of rows; `test` and `validation` are lists of rows or fractions. `data` and
    `settings` are the keys of the study file's `data` and `train`. `edit` changes each record
    before it is written.
    """
    count = 0

    def make(
        train: Sequence[Row] | None = None,
        test: Sequence[Row] | float | None = None,
        validation: Sequence[Row] | float | None = None,
        *,
        methods: Sequence[Any] = ("full", "lora", "head"),
        seeds: int = 3,
        accuracy: dict[str, float] | None = None,
        data: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        max_length: int = 64,
        edit: Edit = lambda record: record,
        history: Sequence[dict[str, Any]] | None = None,
    ) -> AuditedStudy:
        nonlocal count
        count += 1
        home = tmp_path / f"study{count}"
        given = {
            "train": rows(300) if train is None else train,
            "test": rows(200, 1000) if test is None else test,
            "validation": rows(100, 2000) if validation is None else validation,
        }
        sources = {
            role: write(home / "files" / f"{role}.csv", value)
            if not isinstance(value, float)
            else value
            for role, value in given.items()
        }
        columns = {"text_pair": "text_pair"} if "text_pair" in given["train"][0] else {}
        study = complete(
            parse_study(
                {
                    "model": "tiny",
                    "data": {**sources, **columns, **(data or {})},
                    "methods": list(methods),
                    "seeds": seeds,
                    "train": settings or {},
                }
            )
        )
        folder = StudyFolder(home)
        record = prepare(
            study.data,
            model="tiny",
            model_path=tiny_model("bert"),
            model_fingerprint="f" * 64,
            model_type="bert",
            max_length=max_length,
            folder=folder.data,
        )
        folder.write_spec(study)
        task = open_task(folder.data / record.key)
        share = {**ACCURACY, **(accuracy or {})}
        records = [
            edit(run(folder, study, task, place, seed, share, history))
            for seed in study.seeds
            for place in range(len(study.methods))
        ]
        for kept in records:
            folder.run(kept.run_id).write_record(kept)
        return AuditedStudy(folder, study, record, records)

    return make


def write(path: Path, table: Sequence[Row]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return str(path)


def run(
    folder: StudyFolder,
    study: StudySpec,
    task: Task,
    place: int,
    seed: int,
    accuracy: dict[str, float],
    history: Sequence[dict[str, Any]] | None,
) -> RunRecord:
    """Write the folder of a run whose predictions are correct for `accuracy` of the rows."""
    entry = study.methods[place]
    chosen = methods()[entry.method]
    train = replace_train(study.train, {**entry.train, "max_length": task.record.max_length})
    spec = RunSpec(
        name=entry.name, method=entry.method, config=entry.config, model=study.model, train=train,
        seed=seed, metric=study.metric, data_fingerprint=task.record.fingerprint,
        model_fingerprint="f" * 64, task_key=task.record.key,
    )  # fmt: skip
    home = folder.run(spec.run_id)
    home.write_spec(spec)
    splits = {name: task.splits[name] for name in ("validation", "test")}
    answers = {
        name: answered(split.labels, len(task.labels), accuracy[entry.name] + 0.005 * seed, place)
        for name, split in splits.items()
    }
    home.write_predictions(
        pd.concat(
            pd.DataFrame(
                {
                    "split": name,
                    "row": split.rows,
                    "label": np.array(task.labels)[split.labels],
                    "prediction": np.array(task.labels)[answers[name].argmax(1)],
                    "weight": split.weights,
                }
            )
            for name, split in splits.items()
        )
    )
    encoder = chosen.learning_rate is not None
    if encoder:
        lines = history or [{"epoch": epoch, "macro_f1": value} for epoch, value in HISTORY]
        text = "".join(json.dumps({"kind": "validation", **line}) + "\n" for line in lines)
        home.history_file.write_text(text)
    lengths = task.splits["train"].tokens.lengths
    rate = chosen.learning_rate if train.learning_rate == "auto" else train.learning_rate
    return RunRecord(
        run_id=spec.run_id,
        status=Status.FINISHED,
        method=MethodInfo(entry.name, chosen.name, chosen.family, entry.config),
        seed=seed,
        model=study.model,
        metric=study.metric,
        data=DataInfo(
            task.record.fingerprint,
            *(len(task.splits[name]) for name in ("train", "validation", "test")),
            task.labels,
        ),
        train=asdict(train) | {"learning_rate": rate} if encoder else {"learning_rate": None},
        parameters=parameters(chosen.name),
        quality=Quality(
            *(score(splits[name], answers[name], task.labels) for name in ("validation", "test"))
        ),
        cost=Cost(
            train_seconds=10.0,
            samples_per_second=90.0,
            tokens_per_second=90.0 * float(lengths.mean()) if encoder else None,
            peak_memory_bytes=1_000_000,
        ),
        best_epoch=3 if encoder else None,
        environment=MACHINE,
    )


def answered(
    labels: np.ndarray[Any, Any], kinds: int, accuracy: float, method: int
) -> np.ndarray[Any, Any]:
    """Return (rows, labels) probabilities whose argmax is correct for `accuracy` of the rows."""
    draw = np.random.default_rng(method)
    wrong = draw.permutation(len(labels))[: round((1 - accuracy) * len(labels))]
    answer = labels.copy()
    answer[wrong] = (answer[wrong] + 1) % kinds
    found = np.full((len(labels), kinds), 0.1 / (kinds - 1), np.float32)
    found[np.arange(len(labels)), answer] = 0.9
    return found


def parameters(method: str) -> Parameters:
    """Return counts for a body of `BODY` weights, a head of `HEAD`, and LoRA's `ADDED`."""
    total = BODY + HEAD + (ADDED if method == "lora" else 0)
    body = {"full": BODY, "lora": ADDED}.get(method, 0)
    head = 0 if method == "baseline" else HEAD
    return Parameters(total, body + head, body, head, 100 * (body + head) / total)
