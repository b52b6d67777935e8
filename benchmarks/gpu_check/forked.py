"""Run a function in a forked process, whose parent has imported the required packages."""

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
    """Process that runs `call` in its own process group, with its output in the file `log`.

    The parent must not have computed anything with PyTorch before: its threads do not exist in the
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
        """Wait, kill the process group after `seconds`, and describe how the process ended."""
        end, outcome = time.monotonic() + seconds, ""
        while not outcome:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                outcome = f"its process ended with code {os.waitstatus_to_exitcode(status)}"
            elif time.monotonic() >= end:
                outcome = f"stopped after {time.monotonic() - self._start:.0f} s"
            else:
                time.sleep(POLL_SECONDS)
        self._kill()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        atexit.unregister(self._kill)
        self.seconds = time.monotonic() - self._start
        return outcome

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
