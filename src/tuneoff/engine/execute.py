"""Execution of a run: one `RunSpec` in, one `RunRecord` out. Every outcome is a record."""

from __future__ import annotations

import shutil
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tuneoff.config import RunSpec
from tuneoff.engine.data.gather import ROLES
from tuneoff.engine.data.subsample import with_rows
from tuneoff.engine.data.task import Task, open_task, tokenize_seconds
from tuneoff.engine.job import Job, Outcome, data_info
from tuneoff.engine.kernels.arithmetic import arithmetic, has_tf32
from tuneoff.engine.measure.environment import environment
from tuneoff.engine.measure.profile import Trace
from tuneoff.engine.model.out_of_memory import is_out_of_memory
from tuneoff.engine.model.precision import (
    choose_device,
    choose_precision,
    emulation_warning,
    rounding,
)
from tuneoff.engine.model.source import hidden_size
from tuneoff.engine.run_classical import run_classical
from tuneoff.engine.run_encoder import run_encoder
from tuneoff.engine.training import stop
from tuneoff.engine.training.cuda_graphs import compute_stream
from tuneoff.engine.training.journal import Emit, Journal
from tuneoff.engine.training.learning_rate import learning_rate
from tuneoff.engine.training.loop import micro_batch_tokens
from tuneoff.engine.verification.after_training import reopened
from tuneoff.exceptions import Diverged, Interrupted, Pruned, TuneoffError
from tuneoff.methods import config_to_plain, method, parse_config
from tuneoff.results.record import MethodInfo, RunRecord, Status
from tuneoff.results.scores import blind_warnings
from tuneoff.results.store import RunFolder, disk_trouble


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
    concurrent_runs: int = 1,
) -> RunRecord:
    """Train, measure and save a model; write and return the record, also of a failed run.

    A trial of a search is scored on the validation rows only, and saves neither predictions nor a
    model.

    Args:
        spec: Specification of the run.
        folder: Folder of the run.
        task_path: Folder of the prepared task, `<study>/data/<key>`.
        model_path: Folder of the pretrained model.
        emit: Receives events on the progress, a few times per second.
        own_process: Whether SIGTERM and SIGINT end the run as `interrupted`, after a checkpoint.
        whole: Folder of the full task if the task in `task_path` is an excerpt for a forecast.
        profile: Whether to write a trace of some steps to the folder `profile` of the run.
        concurrent_runs: Number of runs that share the device, including this one, for the record.
    """
    if own_process:
        stop.listen()
    started = time.perf_counter()
    job, outcome = _resolved(spec, folder, task_path, model_path), Outcome()
    if job.method.apply is not None and (note := emulation_warning(job.precision, job.device)):
        outcome.warnings.append(note)
    if spec.train.threads is not None:
        torch.set_num_threads(spec.train.threads)
    journal = Journal(folder.history_file, emit)
    if not folder.checkpoint.is_dir():
        journal.cut(0)
    status, error = _attempted(job, outcome, journal, whole, profile)
    if outcome.quality.test is not None and job.method.family != "baseline":
        outcome.warnings += blind_warnings(outcome.quality.test, job.task.labels)
    total = time.perf_counter() - started
    outcome.cost = replace(
        outcome.cost,
        total_seconds=total,
        seconds=outcome.seconds,
        parts=_parts(outcome, total, tokenize_seconds(task_path)),
    )
    record = _record(job, outcome, status, error)
    about = {**record.environment, "concurrent_runs": concurrent_runs}
    record = replace(record, environment=about)
    folder.write_record(record)
    return record


def _resolved(spec: RunSpec, folder: RunFolder, task_path: Path, model_path: Path) -> Job:
    """Return the run with device, precision and learning rate resolved for this machine."""
    task = _opened(spec, task_path)
    chosen = method(spec.method)
    config = parse_config(chosen, spec.config)
    device = torch.device("cpu") if chosen.apply is None else choose_device(spec.train.device)
    return Job(
        spec,
        folder,
        task,
        chosen,
        config,
        device,
        choose_precision(spec.train.precision, device),
        learning_rate(spec, chosen, hidden_size(model_path)),
        model_path,
    )


def _attempted(
    job: Job, outcome: Outcome, journal: Journal, whole: Path | None, profile: bool
) -> tuple[Status, str | None]:
    """Execute the run; return its status and error. Keep a checkpoint only if it can resume."""
    folder, resumable = job.folder, False
    try:
        if job.method.apply is None:
            run_classical(job, outcome, journal)
        else:
            if whole:
                job = replace(job, whole=open_task(whole, ["train"]).splits["train"])
            if profile:
                job = replace(job, trace=Trace(folder.profile, job.device))
            train = job.spec.train
            exact = arithmetic(job.device, tf32=train.tf32, deterministic=train.deterministic)
            with exact, compute_stream(job.device):
                run_encoder(job, outcome, journal)
    except Exception as problem:
        status = _status(problem)
        traceback.print_exc()  # goes to the log of the run
        resumable = status == Status.INTERRUPTED or disk_trouble(problem) is not None
        return status, _message(problem)
    finally:
        journal.close()
        if not resumable:
            shutil.rmtree(folder.checkpoint, ignore_errors=True)
    return Status.FINISHED, None


def _record(job: Job, outcome: Outcome, status: Status, error: str | None) -> RunRecord:
    spec, chosen = job.spec, job.method
    return RunRecord(
        run_id=spec.run_id,
        status=status,
        error=error,
        method=MethodInfo(spec.name, chosen.name, chosen.family, config_to_plain(job.config)),
        seed=spec.seed,
        model=spec.model,
        metric=spec.metric,
        data=data_info(job.task),
        train=_used(job),
        parameters=outcome.parameters,
        quality=outcome.quality,
        cost=outcome.cost,
        best_epoch=outcome.best_epoch,
        environment=environment(job.device),
        deviations=outcome.deviations,
        warnings=outcome.warnings,
        checks=outcome.checks,
        trial=spec.trial is not None,
    )


def _opened(spec: RunSpec, task_path: Path) -> Task:
    """Open the task. A trial gets no test rows."""
    if spec.trial is None:
        return open_task(task_path)
    task = open_task(task_path, [role for role in ROLES if role != "test"])
    return with_rows(task, spec.trial.rows, spec.seed)


def check_saved(folder: RunFolder, task_path: Path) -> None:
    """Reopen the saved model of a run, compare its logits, and complete the record.

    It must be called in another process than that of the training. Without a sample of logits it
    does nothing.
    """
    record = folder.record()
    if record is None or record.checks is None or not folder.sample_file.is_file():
        return
    again, merged = reopened(
        folder.model,
        open_task(task_path).splits["validation"],
        load_file(folder.sample_file)["logits"],
        precision=rounding(record.train["precision"], record.train.get("tf32")),
        quantized=method(record.method.method).quantized,
    )
    checks = replace(record.checks, reopened=again, merged=merged)
    warnings = [*record.warnings, *(x for x in checks.problems if x not in record.warnings)]
    folder.write_record(replace(record, checks=checks, warnings=warnings))
    folder.sample_file.unlink()


_OF_ENCODERS = ("max_length", "attention_dropout", "threads")
_OF_GPUS = ("cuda_graphs", "deterministic")
_OF_ALL = ("class_weights",)


def _used(job: Job) -> dict[str, Any]:
    """Return the training settings with resolved values; None for those without effect."""
    asked, chosen, rate = job.spec.train, job.method, job.learning_rate
    used: dict[str, Any] = asdict(asked)
    if chosen.learning_rate is None:  # no gradient descent
        kept = _OF_ALL if chosen.apply is None else _OF_ALL + _OF_ENCODERS
        used = {key: value if key in kept else None for key, value in used.items()}
    if job.device.type != "cuda":
        used |= dict.fromkeys(_OF_GPUS)
    return used | {
        "tf32": asked.tf32 if has_tf32(job.device) else None,
        "learning_rate": rate,
        "precision": job.precision if chosen.apply is not None else None,
        "micro_batch_tokens": None if rate is None else micro_batch_tokens(asked, job.device),
        "device": job.device.type,
    }


def _parts(outcome: Outcome, total: float, tokenize: float | None) -> dict[str, float]:
    """Split the total time into `PARTS`; the rest is `other`."""
    seconds = outcome.seconds
    parts: dict[str, float] = {k: seconds[k] for k in ("load", "prefix") if k in seconds}
    parts |= outcome.step_seconds or ({"train": seconds["train"]} if "train" in seconds else {})
    parts |= {
        "evaluate": seconds.get("validate", 0.0) + seconds.get("evaluate", 0.0),
        "latency": seconds.get("latency", 0.0),
        "save": seconds.get("checkpoint", 0.0) + seconds.get("save", 0.0),
    }
    parts["other"] = max(0.0, total - sum(parts.values()))
    return parts if tokenize is None else {"tokenize": tokenize, **parts}


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
