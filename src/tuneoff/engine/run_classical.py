"""Run of a method without an encoder."""

from __future__ import annotations

import numpy as np
import torch

from tuneoff.engine.data.task import Split
from tuneoff.engine.job import Answers, Job, Outcome, scored, write_predictions
from tuneoff.engine.measure.latency import latency_seconds
from tuneoff.engine.measure.memory import PeakMemory
from tuneoff.engine.measure.storage import storage_bytes
from tuneoff.engine.training import classical
from tuneoff.engine.training.journal import Journal
from tuneoff.results.record import Cost, Parameters


def run_classical(job: Job, outcome: Outcome, journal: Journal) -> None:
    """Fit, score and save a method without an encoder."""
    spec, folder, task = job.spec, job.folder, job.task
    memory = PeakMemory(torch.device("cpu"))
    journal.phase("train")
    fitted = classical.fit(task, job.method, job.config, spec.train.class_weights, spec.seed)
    train_peak = memory.peak()
    memory.reset()
    outcome.seconds["train"] = fitted.seconds
    answers: Answers = {}
    latency: float | None = None
    with outcome.timed("validate"):
        answers["validation"] = classical.predict_split(fitted, task.splits["validation"])
    if "test" in task.splits:
        journal.phase("test")
        with outcome.timed("evaluate"):
            answers["test"] = classical.predict_split(fitted, task.splits["test"])
        with outcome.timed("latency"):
            latency = _classical_latency(fitted, task.splits["test"])
    outcome.quality = scored(task, answers)
    count = fitted.coefficients
    outcome.parameters = Parameters(count, count, 0, count, 100.0)
    evaluate_peak = memory.peak()
    stored: int | None = None
    if spec.trial is None:
        with outcome.timed("save"):
            write_predictions(folder, task, answers)
            classical.save(fitted, task.labels, folder.model)
            stored = storage_bytes(folder.model)
    rows = len(task.splits["train"].positions)
    outcome.cost = Cost(
        train_seconds=fitted.seconds,
        evaluate_seconds=outcome.seconds.get("evaluate"),
        samples_per_second=rows / fitted.seconds,
        latency_seconds=latency,
        peak_memory_bytes=train_peak,
        memory={"train_peak": train_peak, "evaluate_peak": evaluate_peak},
        storage_bytes=stored,
    )


def _classical_latency(fitted: classical.Fitted, test: Split) -> float:
    texts = classical.joined_texts(test.texts(), test.pairs())
    return latency_seconds(lambda row: fitted.predict([texts[row]]), np.array([*map(len, texts)]))
