"""Worker processes that are reused by later tests, because a new one imports for five seconds.

A worker keeps no state between requests, because it forks a process for each of them. An idle
worker is therefore equivalent to a new one with the same environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tuneoff.scheduling.process import Event, Worker, python_command, worker_environment

MOST_IDLE = 2
"""Maximum number of idle workers. Each uses half a gigabyte."""
_UNUSED = ("PYTEST_CURRENT_TEST", "COLUMNS")
"""Environment variables that differ between tests, but are not read by workers."""


class WarmWorker(Worker):
    """A worker that returns to its pool when it is closed while idle."""

    def __init__(self, pool: WarmWorkers, gpu: str | None, *, load: bool) -> None:
        super().__init__(load=load, gpu=gpu)
        self._pool = pool
        self.started_with = surroundings(gpu)
        self.at_rest = True
        """Whether all replies have been read completely."""

    def ask(self, request: Event) -> Iterator[Event]:
        self.at_rest = False
        for event in super().ask(request):
            # The last event of a reply, after which a caller may stop reading.
            self.at_rest = event["event"] == "ended"
            yield event

    def close(self) -> None:
        if not self._pool.take_back(self):
            self.end()

    def end(self) -> None:
        """End the process."""
        super().close()


class WarmWorkers:
    """The idle workers of this test process; `take` replaces `Worker`."""

    def __init__(self) -> None:
        self._idle: list[WarmWorker] = []
        self._keeps = True
        self._folder = os.getcwd()

    def take(self, *, load: bool = False, gpu: str | None = None) -> Worker:
        """Return an idle worker with the same environment, or a new one.

        A test that has changed the working folder gets a new worker, which is not reused.
        """
        if not self._keeps or os.getcwd() != self._folder:
            return Worker(load=load, gpu=gpu)
        wanted = surroundings(gpu)
        self._idle = [worker for worker in self._idle if worker.alive]
        for worker in self._idle:
            if worker.started_with == wanted:
                self._idle.remove(worker)
                return worker
        return WarmWorker(self, gpu, load=load)

    def take_back(self, worker: WarmWorker) -> bool:
        """Keep the worker if it is idle, and return whether it was kept."""
        if any(worker is idle for idle in self._idle):
            return True
        if not self._keeps or not worker.at_rest or not worker.alive:
            return False
        self._idle.append(worker)
        while len(self._idle) > MOST_IDLE:
            self._idle.pop(0).end()
        return True

    def end_all(self) -> None:
        """End the idle workers."""
        while self._idle:
            self._idle.pop().end()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Context in which every worker is a new process that ends when it is closed."""
        self._keeps = False
        try:
            yield
        finally:
            self._keeps = True


def surroundings(gpu: str | None) -> list[Any]:
    """Return the environment that a new worker would inherit, without the working folder."""
    variables = {k: v for k, v in os.environ.items() if k not in _UNUSED}
    errors = os.fstat(2)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return [
        *(python_command("worker"), worker_environment(gpu, variables)),
        *((errors.st_dev, errors.st_ino), cores),
    ]
