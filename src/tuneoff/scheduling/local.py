"""Launcher for this machine: worker processes execute the runs, each with at most one GPU.

`LocalLauncher` implements the protocol `tuneoff.scheduling.launcher.Launcher`.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from tuneoff.config import Device, RunSpec, StudySpec
from tuneoff.exceptions import BadInput, Issue, RunFailed
from tuneoff.results.record import TaskRecord
from tuneoff.results.store import RunFolder
from tuneoff.scheduling.capacity import available_cores, model_bytes, workers_for
from tuneoff.scheduling.gpus import visible_gpus
from tuneoff.scheduling.launcher import Event, Exit, Prepared
from tuneoff.scheduling.process import Worker


class LocalLauncher:
    """Executes runs in processes on this machine.

    Each worker sees one GPU; the GPUs that this process sees are assigned in turn. Use the launcher
    as a context manager, which ends all workers and their runs at its exit.

    Args:
        workers: Number of runs at a time. "auto" is one until a study is prepared, and is then
            chosen for the machine and the study (see `tuneoff.scheduling.capacity`).
    """

    def __init__(self, workers: int | Literal["auto"] = 1) -> None:
        self.workers = 1 if workers == "auto" else workers
        """Number of runs at a time; with "auto" it is set when a study is prepared."""
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
        """Start or end workers to get this number of them; all must be idle."""
        living = [worker for worker in self._all if worker.alive]
        for worker in living[workers:]:
            worker.close()
        living = living[:workers]
        for place in range(len(living), workers):
            gpu = self._gpus[place % len(self._gpus)] if self._gpus else None
            # The first worker prepares the data while the others load the engine.
            living.append(Worker(load=place > 0 and available_cores() > 1, gpu=gpu))
        self.workers, self._all, self._idle = workers, living, queue.SimpleQueue()
        for worker in living:
            self._idle.put(worker)

    def _sharing(self, device: Device, gpu: str | None) -> int:
        """Return the number of workers that use the CPU, or the same GPU."""
        living = [worker for worker in self._all if worker.alive]
        return len(living) if device == "cpu" else sum(worker.gpu == gpu for worker in living)

    def close(self, grace: float = 0.0) -> None:
        """End all workers and their runs. See `Launcher`."""
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
        """Prepare a study; with "auto", choose the number of workers. See `Launcher`."""
        if self._auto:  # further workers load the engine during the preparation
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
        precision = study.train.precision
        with self._worker() as worker:
            answer = self._answer(worker, request, watch)
            fitted = self._answer(
                worker,
                {
                    "do": "fit",
                    "task_path": answer["task_path"],
                    "model_path": answer["model_path"],
                    "device": answer["device"],
                    "precision": answer["precision"] if precision == "auto" else precision,
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
        """Wait for the worker's reply to a request.

        Raises:
            BadInput: The worker found issues of the input.
            RunFailed: The worker died or failed without a reply.
        """
        answer: Event = {}
        failure = "data preparation failed; see the output above."
        for event in worker.ask(request):
            if event["event"] in ("prepared", "refused"):
                answer = event
            elif event["event"] == "trouble":
                failure = event["said"]
            elif event["event"] == "progress":
                watch(event)
        if answer.get("event") == "refused":
            raise BadInput([Issue(**issue) for issue in answer["issues"]])
        if not answer:
            raise RunFailed(failure)
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
        """Write an excerpt of a task. See `Launcher`."""
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
        """Execute a run in a worker, and wait for its end. See `Launcher`."""
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
        """Check that the saved model of a finished run gives the same output as in the run."""
        request = {
            "do": "check",
            "folder": str(folder.path.absolute()),
            "task_path": str(prepared.task_path),
        }
        with self._worker() as worker:
            for _ in worker.ask(request):
                pass  # progress only; the error of a failed check is in the log of the run

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._idle.get()
        try:
            yield worker
        finally:
            if not worker.alive and not self._closed:  # the study continues with a new worker
                worker.close()
                worker = Worker(gpu=worker.gpu)
                self._all.append(worker)
            self._idle.put(worker)


def _named_precisions(study: StudySpec) -> list[str]:
    """Return the precisions of the study and its methods, except "auto"."""
    named = {study.train.precision, *(m.train.get("precision", "auto") for m in study.methods)}
    return sorted(named - {"auto"})


def _system_kills() -> int:
    """Return the number of kills of Linux's out-of-memory killer; 0 if it is unknown."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
