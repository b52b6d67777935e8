"""Worker processes that are reused by later tests, because a new one imports for five seconds.

A worker keeps no state between requests, since it forks a process for each. An idle worker
therefore does the same as a new one that would be started with the same environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tuneoff.scheduling.process import Event, Worker, python_command, worker_environment

MOST_IDLE = 2
"""Half a gigabyte each."""
_UNUSED = ("PYTEST_CURRENT_TEST", "COLUMNS")
"""Environment variables that differ between tests and that no worker reads."""


class WarmWorker(Worker):
    """A worker that goes back to its pool when it is closed at rest."""

    def __init__(self, pool: WarmWorkers, gpu: str | None, *, load: bool) -> None:
        super().__init__(load=load, gpu=gpu)
        self._pool = pool
        self.started_with = surroundings(gpu)
        self.at_rest = True
        """Whether the answer to each request was read to its end."""

    def ask(self, request: Event) -> Iterator[Event]:
        self.at_rest = False
        for event in super().ask(request):
            # The last event of all: a caller may stop reading there.
            self.at_rest = event["event"] == "ended"
            yield event

    def close(self) -> None:
        if not self._pool.take_back(self):
            self.end()

    def end(self) -> None:
        """End the process."""
        super().close()


class WarmWorkers:
    """The idle workers of this test process; `take` stands in the place of `Worker`."""

    def __init__(self) -> None:
        self._idle: list[WarmWorker] = []
        self._keeps = True
        self._folder = os.getcwd()

    def take(self, *, load: bool = False, gpu: str | None = None) -> Worker:
        """An idle worker that was started as this one would be, or a new one.

        A test in a folder of its own gets a new one, of no use to other tests.
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
        """Whether the worker is kept; not if it may still be at work."""
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
        """Within it, every worker is a new process, which ends when it is closed."""
        self._keeps = False
        try:
            yield
        finally:
            self._keeps = True


def surroundings(gpu: str | None) -> list[Any]:
    """Return what a worker that is started now inherits, apart from the working folder."""
    variables = {k: v for k, v in os.environ.items() if k not in _UNUSED}
    errors = os.fstat(2)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return [
        *(python_command("worker"), worker_environment(gpu, variables)),
        *((errors.st_dev, errors.st_ino), cores),
    ]
