"""5: one spec goes down, one record comes back. Every outcome is a record."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from tuneoff.data.gather import ROLES
from tuneoff.data.share import with_rows
from tuneoff.data.task import Split, Task, open_task, tokenize_seconds
from tuneoff.errors import Diverged, Interrupted, Pruned, TuneoffError
from tuneoff.measure.compute import product_rate, training_flops
from tuneoff.measure.environment import environment
from tuneoff.measure.latency import latency_seconds
from tuneoff.measure.memory import PeakMemory, is_out_of_memory, weight_bytes
from tuneoff.measure.parameters import count_parameters
from tuneoff.measure.quality import score
from tuneoff.measure.storage import storage_bytes
from tuneoff.measure.trace import Trace
from tuneoff.methods import config_to_plain, method, parse_config
from tuneoff.methods.base import Method
from tuneoff.model.contract import WeightsWatch, reopened, sample_logits
from tuneoff.model.load import load_classifier
from tuneoff.model.packed import Classifier
from tuneoff.model.precision import DTYPES, Precision, choose_device, choose_precision
from tuneoff.model.prefix import Prefix, frozen_layers, store_prefix
from tuneoff.model.save import save_classifier
from tuneoff.model.source import hidden_size
from tuneoff.record import (
    Checks,
    Cost,
    DataInfo,
    MethodInfo,
    Parameters,
    Quality,
    RunRecord,
    Status,
)
from tuneoff.scores import blind_warnings
from tuneoff.spec import RunSpec, TrainSpec
from tuneoff.store import RunFolder, disk_trouble
from tuneoff.train import classical, stop
from tuneoff.train.checkpoint import BestCheckpoint, Checkpoints
from tuneoff.train.journal import Emit, Journal
from tuneoff.train.loop import Trained, micro_batch_tokens, train
from tuneoff.train.predict import answer_one, predict
from tuneoff.train.rate import learning_rate

Answers = dict[str, npt.NDArray[np.float32]]
"""(rows, labels) probabilities by split."""


@dataclass
class _Outcome:
    """What a run has found so far; a run that breaks off leaves the rest None."""

    parameters: Parameters | None = None
    quality: Quality = field(default_factory=Quality)
    cost: Cost = field(default_factory=Cost)
    best_epoch: int | None = None
    departures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    checks: Checks | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    laps: dict[str, float] = field(default_factory=dict)
    """Of the training steps alone, by part."""

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Time spent in here is booked under `part`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def run(
    spec: RunSpec,
    folder: RunFolder,
    *,
    task_path: Path,
    model_path: Path,
    emit: Emit,
    own_process: bool = False,
    whole: Path | None = None,
    profile: bool = False,
) -> RunRecord:
    """Train, measure and save as `spec` asks; write and return the record, whatever happens.

    `task_path` is the prepared task (`<study>/data/<key>`), `model_path` the pretrained model's
    folder. `emit` is told the progress, a few times per second. In a process of its own, SIGTERM
    and SIGINT let the run save a checkpoint and end as `interrupted`. A trial is scored on the
    validation rows alone, and leaves neither predictions nor a model.

    `whole`: the task of which the one in `task_path` is an excerpt; the run is a forecast's then.
    `profile`: leave a trace of some steps in the folder's `profile/`.
    """
    if own_process:
        stop.listen()
    started = time.perf_counter()
    task = _opened(spec, task_path)
    chosen = method(spec.method)
    config = parse_config(chosen, spec.config)
    device = torch.device("cpu") if chosen.apply is None else choose_device(spec.train.device)
    precision = choose_precision(spec.train.precision, device)
    if spec.train.threads is not None:
        torch.set_num_threads(spec.train.threads)
    outcome = _Outcome()
    status, error, going_on = Status.FINISHED, None, False
    rate = learning_rate(spec, chosen, hidden_size(model_path))
    journal = Journal(folder.history_file, emit)
    if not folder.checkpoint.is_dir():
        journal.cut(0)
    try:
        if chosen.apply is None:
            _classical(spec, folder, task, chosen, config, outcome, journal)
        else:
            job = _Job(
                spec,
                folder,
                task,
                chosen,
                config,
                device,
                precision,
                rate,
                model_path,
                whole=open_task(whole, ["train"]).splits["train"] if whole else None,
                trace=Trace(folder.profile, device) if profile else None,
            )
            _encoder(job, outcome, journal)
    except Exception as problem:
        status, error = _status(problem), _message(problem)
        traceback.print_exc()  # into the run's log
        going_on = status == Status.INTERRUPTED or disk_trouble(problem) is not None
    finally:
        journal.close()
        if not going_on:
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
    if outcome.quality.test is not None and chosen.family != "baseline":
        outcome.warnings += blind_warnings(outcome.quality.test, task.labels)
    total = time.perf_counter() - started
    outcome.cost = replace(
        outcome.cost,
        total_seconds=total,
        seconds=outcome.seconds,
        parts=_parts(outcome, total, tokenize_seconds(task_path)),
    )
    record = RunRecord(
        run_id=spec.run_id,
        status=status,
        error=error,
        method=MethodInfo(spec.name, chosen.name, chosen.family, config_to_plain(config)),
        seed=spec.seed,
        model=spec.model,
        metric=spec.metric,
        data=data_info(task),
        train=_used(spec.train, chosen, rate, precision, device),
        parameters=outcome.parameters,
        quality=outcome.quality,
        cost=outcome.cost,
        best_epoch=outcome.best_epoch,
        environment=environment(device),
        departures=outcome.departures,
        warnings=outcome.warnings,
        checks=outcome.checks,
        trial=spec.trial is not None,
    )
    folder.write_record(record)
    return record


def _opened(spec: RunSpec, task_path: Path) -> Task:
    """The task as the run may see it: a trial gets no test rows at all."""
    if spec.trial is None:
        return open_task(task_path)
    task = open_task(task_path, [role for role in ROLES if role != "test"])
    return with_rows(task, spec.trial.rows, spec.seed)


def check_saved(folder: RunFolder, task_path: Path) -> None:
    """Open the saved model of a run that just ended, compare it, and complete its record.

    To be called in a process that has not trained it. Without a sample there is nothing to do.
    """
    record = folder.record()
    if record is None or record.checks is None or not folder.sample_file.is_file():
        return
    again, merged = reopened(
        folder.model,
        open_task(task_path).splits["validation"],
        load_file(folder.sample_file)["logits"],
        precision=record.train["precision"],
        quantized=method(record.method.method).quantized,
    )
    checks = replace(record.checks, reopened=again, merged=merged)
    folder.write_record(replace(record, checks=checks, warnings=[*record.warnings, *checks.faults]))
    folder.sample_file.unlink()


_OF_ENCODERS = ("max_length", "attention_dropout", "threads")
_OF_ALL = ("class_weights",)


def _used(
    asked: TrainSpec, chosen: Method, rate: float | None, precision: str, device: torch.device
) -> dict[str, Any]:
    """The training settings with what was resolved in place of "auto"; None: plays no part."""
    used: dict[str, Any] = asdict(asked)
    if chosen.learning_rate is None:  # nothing is trained by gradient descent
        kept = _OF_ALL if chosen.apply is None else _OF_ALL + _OF_ENCODERS
        used = {key: value if key in kept else None for key, value in used.items()}
    return used | {
        "learning_rate": rate,
        "precision": precision if chosen.apply is not None else None,
        "micro_batch_tokens": None if rate is None else micro_batch_tokens(asked, device),
        "device": device.type,
    }


@dataclass(frozen=True)
class _Job:
    """A run of an encoder method, everything resolved."""

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
    trace: Trace | None = None

    @property
    def identity(self) -> str:
        """What frozen states depend on beside the task and the number of layers."""
        kind = "nf4" if self.method.quantized else "whole"
        return f"{self.spec.model_fingerprint} {kind} {self.precision} {self.device.type}"


def _encoder(job: _Job, outcome: _Outcome, journal: Journal) -> None:
    """Load, train, evaluate once on the test split, save."""
    memory = PeakMemory(job.device)
    settings = job.spec.train
    accelerator = Accelerator(cpu=job.device.type == "cpu")
    journal.phase("load")
    with outcome.timed("load"):
        trainee = load_classifier(
            job.model_path,
            job.task.labels,
            job.method,
            job.config,
            dtype=DTYPES[job.precision],
            device=job.device,
            attention_dropout=settings.attention_dropout,
            seed=job.spec.seed,
        )
    classifier = trainee.classifier
    outcome.parameters = count_parameters(classifier.model, classifier.architecture)
    outcome.departures = _departures(job, classifier)
    prefix, task = None, job.task
    frozen = frozen_layers(trainee) if settings.frozen_prefix != "dropout" else 0
    if frozen:
        classifier.freeze_below(frozen)
    if frozen and settings.frozen_prefix == "stored":
        with outcome.timed("prefix"):
            task, prefix = store_prefix(trainee, task, job.identity, job.device, frozen)
    outcome.departures |= _prefix_departures(frozen, prefix)
    weights = weight_bytes(classifier.model)
    watch = WeightsWatch(trainee)
    trained: Trained | None = None
    if trainee.masters:
        assert job.learning_rate is not None
        best = BestCheckpoint(job.folder.checkpoint, job.spec.metric)
        trained = train(
            trainee,
            task,
            settings,
            learning_rate=job.learning_rate,
            metric=job.spec.metric,
            seed=job.spec.seed,
            accelerator=accelerator,
            journal=journal,
            memory=memory,
            best=best,
            checkpoints=Checkpoints(
                job.folder.checkpoint, job.spec.run_id, settings.checkpoint_seconds
            ),
            floors=job.spec.trial.floors if job.spec.trial else (),
            whole=job.whole,
            trace=job.trace,
        )
        outcome.seconds.update(
            train=trained.meter.train_seconds,
            validate=trained.meter.evaluate_seconds,
            checkpoint=trained.meter.save_seconds,
        )
        outcome.laps = trained.meter.laps.seconds
        outcome.best_epoch = trained.best_epoch
        planned = micro_batch_tokens(settings, job.device)
        if trained.micro_batch_tokens < planned:
            outcome.warnings.append(
                f"memory ran out: steps were computed in pieces of {trained.micro_batch_tokens:,}"
                f" tokens instead of {planned:,} (the same result)"
            )
        if trained.recomputed and settings.gradient_checkpointing == "auto":
            outcome.warnings.append(
                "memory ran out for a single example: layers were computed again in the backward"
                " pass (gradient_checkpointing; the same result, in more time)"
            )
    memory.reset()
    answers = _evaluate(job, task, classifier, outcome, journal)
    evaluate_peak = memory.peak()
    latency = _latency(job, classifier, outcome)
    share = trained.best_epoch / settings.epochs if trained else 1.0
    outcome.checks = Checks(watch.unchanged(trainee, share), watch.changed(trainee))
    stored: int | None = None
    if job.spec.trial is None:
        journal.phase("save")
        with outcome.timed("save"):
            logits = sample_logits(classifier, job.task.splits["validation"], job.device)
            save_file({"logits": logits}, job.folder.sample_file)
            _write_predictions(job.folder, job.task, answers)
            save_classifier(
                trainee,
                job.model_path,
                job.folder.model,
                method=job.method,
                config=job.config,
                name=job.spec.model,
            )
            stored = storage_bytes(job.folder.model, classifier.model) if trained else 0
    parts = _memory_parts(weights, trained, evaluate_peak, memory.reserved())
    outcome.cost = Cost(
        train_seconds=trained.meter.train_seconds + (prefix.seconds if prefix else 0.0)
        if trained
        else None,
        evaluate_seconds=outcome.seconds.get("evaluate"),
        samples_per_second=trained.meter.samples_per_second if trained else None,
        tokens_per_second=trained.meter.tokens_per_second if trained else None,
        latency_seconds=latency,
        peak_memory_bytes=trained.meter.peak_bytes if trained else None,
        memory=parts,
        storage_bytes=stored,
        flops_utilization=_utilization(job, classifier, trained, prefix) if trained else None,
    )


def _evaluate(
    job: _Job, task: Task, classifier: Classifier, outcome: _Outcome, journal: Journal
) -> Answers:
    """Scores at the chosen checkpoint; the only place where the test split is read."""
    splits, answers = task.splits, {}

    def progress(done: int, rows: int) -> None:
        stop.check()
        journal.progress("test", step=done, steps=rows)

    with outcome.timed("validate"):
        answers["validation"] = predict(classifier, splits["validation"], job.device)
    if "test" in splits:
        with outcome.timed("evaluate"):
            answers["test"] = predict(classifier, splits["test"], job.device, progress)
    outcome.quality = _scored(job.task, answers)
    return answers


def _latency(job: _Job, classifier: Classifier, outcome: _Outcome) -> float | None:
    """Of single test texts, through the whole model: states kept on disk would not be at hand.

    Nothing is scored here. A trial has no test rows, and no latency.
    """
    test = job.task.splits.get("test")
    if test is None:
        return None

    def answer(row: int) -> None:
        stop.check()
        answer_one(classifier, test, row, job.device)

    with outcome.timed("latency"):
        return latency_seconds(answer, test.tokens.lengths)


def _scored(task: Task, answers: Answers) -> Quality:
    found = {name: score(task.splits[name], own, task.labels) for name, own in answers.items()}
    return Quality(**found)


def _classical(
    spec: RunSpec,
    folder: RunFolder,
    task: Task,
    chosen: Method,
    config: Any,
    outcome: _Outcome,
    journal: Journal,
) -> None:
    """Fit, score and save a method that has no encoder."""
    memory = PeakMemory(torch.device("cpu"))
    journal.phase("train")
    fitted = classical.fit(task, chosen, config, spec.train.class_weights, spec.seed)
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
    outcome.quality = _scored(task, answers)
    count = fitted.coefficients
    outcome.parameters = Parameters(count, count, 0, count, 100.0)
    evaluate_peak = memory.peak()
    stored: int | None = None
    if spec.trial is None:
        with outcome.timed("save"):
            _write_predictions(folder, task, answers)
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


def data_info(task: Task) -> DataInfo:
    """The rows of `task` as a run's record names them."""
    splits = task.splits
    return DataInfo(
        fingerprint=task.record.fingerprint,
        train_rows=len(splits["train"].positions),
        validation_rows=len(splits["validation"]),
        test_rows=len(splits["test"]) if "test" in splits else 0,
        labels=task.labels,
    )


def _write_predictions(folder: RunFolder, task: Task, answers: Answers) -> None:
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


def _memory_parts(
    weights: int,
    trained: Trained | None,
    evaluate_peak: int,
    reserved: int | None,
) -> dict[str, int | None]:
    """The peak of training by part; activations are what the other parts leave of it."""
    parts: dict[str, int | None] = {"weights": weights}
    if trained is not None:
        reserved = trained.meter.reserved_bytes
        held = weights + trained.gradient_bytes + trained.optimizer_bytes
        parts |= {
            "gradients": trained.gradient_bytes,
            "optimizer_state": trained.optimizer_bytes,
            "activations": max(0, trained.meter.peak_bytes - held),
        }
    return parts | {
        "train_peak": trained.meter.peak_bytes if trained else None,
        "evaluate_peak": evaluate_peak,
        "reserved_peak": reserved,
    }


def _parts(outcome: _Outcome, total: float, tokenize: float | None) -> dict[str, float]:
    """Where the `total` went, by `PARTS`; what no part accounts for is `other`."""
    seconds = outcome.seconds
    parts: dict[str, float] = {k: seconds[k] for k in ("load", "prefix") if k in seconds}
    parts |= outcome.laps or ({"train": seconds["train"]} if "train" in seconds else {})
    parts |= {
        "evaluate": seconds.get("validate", 0.0) + seconds.get("evaluate", 0.0),
        "latency": seconds.get("latency", 0.0),
        "save": seconds.get("checkpoint", 0.0) + seconds.get("save", 0.0),
    }
    parts["other"] = max(0.0, total - sum(parts.values()))
    return parts if tokenize is None else {"tokenize": tokenize, **parts}


def _utilization(
    job: _Job, classifier: Classifier, trained: Trained, prefix: Prefix | None
) -> float | None:
    """None where no layer runs in a step: what remains is not made of matrix products."""
    rows = job.task.splits["train"]
    lengths = rows.tokens.lengths[rows.positions]
    above = prefix.layers if prefix else 0
    if above == len(classifier.architecture.layers):
        return None
    needed = training_flops(classifier.model, classifier.architecture, lengths, above)
    per_token = needed / float(lengths.sum())
    rate = product_rate(DTYPES[job.precision], job.device)
    return per_token * trained.meter.tokens / trained.meter.train_seconds / rate


def _prefix_departures(layers: int, prefix: Prefix | None) -> dict[str, str]:
    if not layers:
        return {}
    text = f"the frozen embeddings and {layers} layers run without dropout"
    if prefix:
        text += (
            f", once for all runs of the study: {prefix.bytes / 1e6:,.0f} MB on disk, and"
            f" {prefix.seconds:.1f} s of training time in each run, whichever computed them"
        )
    return {"frozen_prefix": text + " (frozen_prefix: dropout restores the plain recipe)"}


def _departures(job: _Job, classifier: Classifier) -> dict[str, str]:
    """Where the engine departs from the plain recipe."""
    found = {}
    if job.spec.train.attention_dropout != "model":
        found["attention_dropout"] = (
            f"{job.spec.train.attention_dropout} instead of the model's own"
            " (attention_dropout: model restores it)"
        )
    if job.device.type == "cpu":
        found["dropout"] = "rates are multiples of 1/256 on a CPU (0.1 is 26/256)"
    if job.precision != "fp32":
        found["precision"] = f"the body computes in {job.precision}, the head in fp32"
    if not classifier.packs:
        found["layout"] = "padded batches: this architecture cannot be packed yet"
    return found


def _status(problem: Exception) -> Status:
    if isinstance(problem, Diverged):
        return Status.DIVERGED
    if isinstance(problem, Pruned):
        return Status.PRUNED
    if isinstance(problem, Interrupted):
        return Status.INTERRUPTED
    return Status.OUT_OF_MEMORY if is_out_of_memory(problem) else Status.FAILED


def _message(problem: Exception) -> str:
    if isinstance(problem, TuneoffError):
        return str(problem)
    if (trouble := disk_trouble(problem)) is not None:
        return trouble
    return f"{type(problem).__name__}: {problem}"
