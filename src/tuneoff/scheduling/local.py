"""Launcher for this machine: runs go to worker processes, each with at most one GPU."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tuneoff.config import Device, Precision, RunSpec, StudySpec
from tuneoff.exceptions import BadInput, Issue, RunFailed
from tuneoff.results.record import TaskRecord
from tuneoff.results.store import RunFolder
from tuneoff.scheduling.capacity import available_cores, model_bytes, workers_for
from tuneoff.scheduling.gpus import visible_gpus
from tuneoff.scheduling.process import Event, Worker


@dataclass(frozen=True)
class Prepared:
    """A task on disk, and the model that it was tokenised for."""

    task: TaskRecord
    task_path: Path
    model_path: Path
    device: Device
    precision: Precision
    """What `device` and `precision: auto` come to on this machine."""
    hidden_size: int = 768
    """Width of the model's states, on which default learning rates depend."""


@dataclass(frozen=True)
class Exit:
    """How the process of a run ended: its exit code, or minus the signal that killed it."""

    code: int
    out_of_memory: bool
    """Whether the system's out-of-memory killer was at work meanwhile."""
    interrupted: bool
    """Whether this process ended it."""
    trouble: str | None = None
    """What the process said was the matter with the disk, where it could not write it down."""


class LocalLauncher:
    """Runs specs in processes of this machine, at most `workers` at a time.

    "auto" is one run until a study is prepared, and then what suits machine and study (see
    `tuneoff.scheduling.capacity`). Each worker sees one GPU, taken in turns from those that this
    process sees. Use as a context manager; leaving it ends every worker and what it was running.
    """

    def __init__(self, workers: int | Literal["auto"] = 1) -> None:
        self.workers = 1 if workers == "auto" else workers
        """Runs at a time; with "auto" known once a study is prepared."""
        self._auto = workers == "auto"
        self._gpus: list[str] = []
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all: list[Worker] = []
        self._closed = False

    def __enter__(self) -> LocalLauncher:
        self._gpus = visible_gpus(os.environ)
        self._resize(self.workers)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resize(self, workers: int) -> None:
        """Start or end idle workers until there are so many; none may be at work."""
        living = [worker for worker in self._all if worker.alive]
        for worker in living[workers:]:
            worker.close()
        living = living[:workers]
        for place in range(len(living), workers):
            gpu = self._gpus[place % len(self._gpus)] if self._gpus else None
            # The first one prepares; the others load the engine meanwhile.
            living.append(Worker(load=place > 0 and available_cores() > 1, gpu=gpu))
        self.workers, self._all, self._idle = workers, living, queue.SimpleQueue()
        for worker in living:
            self._idle.put(worker)

    def _sharing(self, device: Device, gpu: str | None) -> int:
        """How many workers compute on the processor, or on this GPU."""
        living = [worker for worker in self._all if worker.alive]
        return len(living) if device == "cpu" else sum(worker.gpu == gpu for worker in living)

    def close(self, grace: float = 0.0) -> None:
        """End every worker and whatever it was running.

        With `grace` runs are asked to save first, and have so many seconds for it.
        """
        self._closed = True
        if grace:
            for worker in self._all:
                worker.ask_to_end()
            end = time.monotonic() + grace
            while any(worker.running for worker in self._all) and time.monotonic() < end:
                time.sleep(0.05)
        for worker in self._all:
            worker.close()

    def prepare(self, study: StudySpec, folder: Path, watch: Callable[[Event], None]) -> Prepared:
        """Find device and model; read, check, split and tokenise the data into `folder`; try each
        method of the completed `study` on the model's outline.

        Raises `BadInput` with every issue found, before any weight is loaded.
        """
        if self._auto:  # so that they load the engine meanwhile
            self._resize(workers_for(study, self._gpus, device=study.train.device))
        request = {
            "do": "prepare",
            "model": study.model,
            "data": asdict(study.data),
            "max_length": study.train.max_length,
            "device": study.train.device,
            "precisions": _named_precisions(study),
            "folder": str(folder.absolute()),
        }
        asked = study.train.precision
        with self._worker() as worker:
            answer = self._answer(worker, request, watch)
            fitted = self._answer(
                worker,
                {
                    "do": "fit",
                    "task_path": answer["task_path"],
                    "model_path": answer["model_path"],
                    "device": answer["device"],
                    "precision": answer["precision"] if asked == "auto" else asked,
                    "threads": available_cores(),
                    "methods": [(m.name, m.method, m.config) for m in study.methods],
                },
                watch,
            )
        model = Path(answer["model_path"])
        if self._auto:
            size = model_bytes(model)
            chosen = workers_for(study, self._gpus, device=answer["device"], model_bytes=size)
            self._resize(chosen)
        return Prepared(
            TaskRecord.from_plain(answer["task"]),
            Path(answer["task_path"]),
            model,
            answer["device"],
            answer["precision"],
            fitted["hidden_size"],
        )

    @staticmethod
    def _answer(worker: Worker, request: Event, watch: Callable[[Event], None]) -> Event:
        """What the worker comes to; `BadInput` if it refuses, `RunFailed` if it breaks off."""
        answer: Event = {}
        broken = "preparing the data broke off; its messages stand above."
        for event in worker.ask(request):
            if event["event"] in ("prepared", "refused"):
                answer = event
            elif event["event"] == "trouble":
                broken = event["said"]
            elif event["event"] == "progress":
                watch(event)
        if answer.get("event") == "refused":
            raise BadInput([Issue(**issue) for issue in answer["issues"]])
        if not answer:
            raise RunFailed(broken)
        return answer

    def excerpt(
        self,
        prepared: Prepared,
        folder: Path,
        *,
        batch_size: int,
        epochs: int,
        seeds: Sequence[int],
        train_rows: int | None = None,
    ) -> Event:
        """Some rows of the task as a task of their own in the new `folder`, by
        `tuneoff.engine.data.excerpt`: its `path`, and what the rows stand for."""
        request = {
            "do": "excerpt",
            "task_path": str(prepared.task_path),
            "folder": str(folder.absolute()),
            "batch_size": batch_size,
            "epochs": epochs,
            "seeds": list(seeds),
            "train_rows": train_rows,
        }
        with self._worker() as worker:
            return self._answer(worker, request, lambda event: None)

    def run(
        self,
        spec: RunSpec,
        folder: RunFolder,
        prepared: Prepared,
        watch: Callable[[Event], None],
        *,
        whole: Path | None = None,
        profile: bool = False,
    ) -> Exit:
        """Run `spec`, wait for its end, and say how its process ended; its record is in `folder`.

        `folder` must hold the spec. `watch` is called with each progress event. Callers from
        several threads share the workers. `whole` and `profile` are those of `tuneoff.engine.run`.
        """
        request: Event = {
            "do": "run",
            "folder": str(folder.path.absolute()),
            "task_path": str(prepared.task_path),
            "model_path": str(prepared.model_path),
            "whole": str(whole) if whole else None,
            "profile": profile,
            "threads": spec.train.threads or max(1, available_cores() // self.workers),
        }
        kills = _system_kills()
        code, trouble = -signal.SIGKILL.value, None
        with self._worker() as worker:
            request["concurrent_runs"] = self._sharing(prepared.device, worker.gpu)
            for event in worker.ask(request):
                if event["event"] == "ended":
                    code = event["exit"]
                elif event["event"] == "trouble":
                    trouble = event["said"]
                else:
                    watch(event)
        return Exit(
            code,
            out_of_memory=code < 0 and _system_kills() > kills,
            interrupted=code < 0 and self._closed,
            trouble=trouble,
        )

    def check(self, folder: RunFolder, prepared: Prepared) -> None:
        """Hold the saved model of the finished run in `folder` against what the run measured."""
        request = {
            "do": "check",
            "folder": str(folder.path.absolute()),
            "task_path": str(prepared.task_path),
        }
        with self._worker() as worker:
            for _ in worker.ask(request):
                pass  # progress; what a failing check says is in the run's log

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._idle.get()
        try:
            yield worker
        finally:
            if not worker.alive and not self._closed:  # whatever killed it must not end the study
                worker.close()
                worker = Worker(gpu=worker.gpu)
                self._all.append(worker)
            self._idle.put(worker)


def _named_precisions(study: StudySpec) -> list[str]:
    """The precisions that the study and its methods name; "auto" fits every device."""
    found = {study.train.precision, *(m.train.get("precision", "auto") for m in study.methods)}
    return sorted(found - {"auto"})


def _system_kills() -> int:
    """How often Linux's out-of-memory killer struck on this machine; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
