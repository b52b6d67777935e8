"""A function in a process of its own, forked from one that has imported what it needs."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.05


class Forked:
    """Runs `call` in a fork, in a process group of its own; what it prints goes to `log`.

    The parent must not have computed anything with PyTorch before: its threads are missing in the
    child, and a CUDA context cannot be inherited.
    """

    def __init__(self, call: Callable[[], int | None], log: Path) -> None:
        self.log = log
        self.seconds = 0.0
        self._start = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self._parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os._exit(self._child(call))
        atexit.register(self._kill)

    def wait(self, seconds: float) -> str:
        """How it ended, in words; it is killed with all that it has started after `seconds`."""
        end, ended = time.monotonic() + seconds, ""
        while not ended:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                ended = f"its process ended with code {os.waitstatus_to_exitcode(status)}"
            elif time.monotonic() >= end:
                ended = f"stopped after {time.monotonic() - self._start:.0f} s"
            else:
                time.sleep(POLL_SECONDS)
        self._kill()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        atexit.unregister(self._kill)
        self.seconds = time.monotonic() - self._start
        return ended

    def _kill(self) -> None:
        if os.getpid() == self._parent:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _child(self, call: Callable[[], int | None]) -> int:
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            stream = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            code = call() or 0
        except SystemExit as problem:
            code = problem.code if isinstance(problem.code, int) else int(problem.code is not None)
            if isinstance(problem.code, str):
                print(problem.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        return code
