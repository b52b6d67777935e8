"""The desk's side: worker processes on this machine, spoken to in lines of JSON."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneoff.errors import BadInput, Fault, RunFailed
from tuneoff.record import TaskRecord
from tuneoff.spec import Device, Precision, RunSpec, StudySpec
from tuneoff.store import RunFolder

Event = dict[str, Any]


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
    """Whether the desk itself ended it."""
    trouble: str | None = None
    """What the process said was the matter with the disk, where it could not write it down."""


class LocalLauncher:
    """Runs specs in processes of this machine, at most `workers` at a time.

    Use as a context manager; leaving it ends every worker and whatever it was running.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []
        self._closed = False

    def __enter__(self) -> LocalLauncher:
        for i in range(
            self.workers
        ):  # the first one prepares; the others load the engine meanwhile
            worker = _Worker(load=i > 0 and available_cores() > 1)
            self._all.append(worker)
            self._idle.put(worker)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

        Raises `BadInput` with every fault found, before any weight is loaded.
        """
        request = {
            "do": "prepare",
            "model": study.model,
            "data": asdict(study.data),
            "max_length": study.train.max_length,
            "device": study.train.device,
            "folder": str(folder.absolute()),
        }
        with self._worker() as worker:
            answer = self._answer(worker, request, watch)
            fitted = self._answer(
                worker,
                {
                    "do": "fit",
                    "task_path": answer["task_path"],
                    "model_path": answer["model_path"],
                    "methods": [(m.name, m.method, m.config) for m in study.methods],
                },
                watch,
            )
        return Prepared(
            TaskRecord.from_plain(answer["task"]),
            Path(answer["task_path"]),
            Path(answer["model_path"]),
            answer["device"],
            answer["precision"],
            fitted["hidden_size"],
        )

    @staticmethod
    def _answer(worker: _Worker, request: Event, watch: Callable[[Event], None]) -> Event:
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
            raise BadInput([Fault(**fault) for fault in answer["faults"]])
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
        `tuneoff.data.excerpt`: its `path`, and what the rows stand for."""
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
        several threads share the workers. `whole` and `profile` are those of `tuneoff.run.run`.
        """
        request = {
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
    def _worker(self) -> Iterator[_Worker]:
        worker = self._idle.get()
        try:
            yield worker
        finally:
            if not worker.alive and not self._closed:  # whatever killed it must not end the study
                worker.close()
                worker = _Worker()
                self._all.append(worker)
            self._idle.put(worker)


_WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "true",
    # The worker forks, so it must look for GPUs without touching CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


class _Worker:
    """One worker process, started at once so that it is warm when it is needed; with `load` it
    holds the engine by then."""

    def __init__(self, load: bool = False) -> None:
        self.running = False
        """Whether a run is at work."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tuneoff.launch.worker", *(["--load"] if load else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the desk's to handle
            env={**_WORKER_ENVIRONMENT, **os.environ},
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: Event) -> Iterator[Event]:
        """The events up to and with the one that ends the request; fewer if the worker dies."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return
        self.running = request["do"] == "run"
        try:
            while (line := self._answer()).endswith("\n"):
                event: Event = json.loads(line)
                yield event
                if event["event"] == "ended":
                    return
            self._process.wait()
        finally:
            self.running = False

    def ask_to_end(self) -> None:
        """Ask the run at work to save and end."""
        if self.running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _answer(self) -> str:
        """The next line, cut short if the worker was killed while it wrote, empty at the end."""
        assert self._process.stdout is not None
        try:
            return self._process.stdout.readline()
        except ValueError:  # closed by the thread that ends the study
            return ""

    def close(self) -> None:
        """End the worker and what it runs."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system_kills() -> int:
    """How often Linux's out-of-memory killer struck on this machine; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
