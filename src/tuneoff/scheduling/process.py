"""Start and end of worker processes, and communication with them in lines of JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tuneoff

Event = dict[str, Any]

_DEFAULTS = {
    "TOKENIZERS_PARALLELISM": "true",
    # The worker forks, so it must detect GPUs without initialising CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which torchrun, Accelerate and MPI store the number of processes."""
_OF_LAUNCHERS = re.compile(
    "WORLD_SIZE|((LOCAL|NODE|GROUP|ROLE)_)?RANK|(LOCAL|GROUP|ROLE)_WORLD_SIZE|ROLE_NAME"
    "|MASTER_(ADDR|PORT)|CROSS_(RANK|SIZE)"
    "|(TORCHELASTIC|ACCELERATE|FSDP|DEEPSPEED|PMIX?|OMPI_COMM_WORLD|MV2_COMM_WORLD|HOROVOD)_.*"
)
"""Variables that torchrun, Accelerate, DeepSpeed, Horovod and MPI set for each process."""


def python_command(module: str, *arguments: str) -> list[str]:
    """Return a command that executes a module of this package with the import path of this process.

    The folder that Python puts first, of the script or the working folder, is left out, so that a
    `random.py` next to the data cannot replace the standard module.
    """
    start = (
        f"import sys, runpy; sys.path[:] = dict.fromkeys({import_path()!r} + sys.path)\n"
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-P", "-c", start, module, *arguments]


def import_path() -> list[str]:
    """Return `sys.path` without the working folder and the folder of the main script.

    If PYTHONPATH or an installed package includes them, Python adds them again.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    left_out = {os.path.realpath(os.getcwd())}
    if script is not None:
        left_out.add(os.path.dirname(os.path.realpath(script)))
    kept = [
        entry
        for entry in sys.path
        if os.path.isabs(entry) and os.path.realpath(entry) not in left_out
    ]
    own = str(Path(tuneoff.__file__).resolve().parents[1])
    return kept if own in map(os.path.realpath, kept) else [*kept, own]


def worker_environment(gpu: str | None, of_parent: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker.

    Variables of distributed launchers are removed, because libraries would wait for other
    processes.

    Args:
        gpu: The only GPU that the worker can use; None: all GPUs of the parent.
        of_parent: Environment of the parent process.
    """
    kept = {k: value for k, value in of_parent.items() if not _OF_LAUNCHERS.fullmatch(k)}
    if path := kept.get("PYTHONPATH"):  # an empty entry means the working folder
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, path.split(os.pathsep)))
    if gpu is not None:
        kept["CUDA_VISIBLE_DEVICES"] = gpu
    return {**_DEFAULTS, **kept}


class Worker:
    """A worker process. It starts immediately, so that it is ready when it is needed."""

    def __init__(self, *, load: bool = False, gpu: str | None = None) -> None:
        """Start the process.

        Args:
            load: Whether to import the engine immediately.
            gpu: The only GPU that the worker can use; None: all.
        """
        self.gpu = gpu
        self.running = False
        """Whether a run is active."""
        self._process = subprocess.Popen(
            python_command("tuneoff.scheduling.worker", *(["--load"] if load else [])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is handled by the parent
            env=worker_environment(gpu, os.environ),
        )

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def ask(self, request: Event) -> Iterator[Event]:
        """Send a request, and yield its events up to `ended` or the death of the worker."""
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
        """Ask the active run to write a checkpoint and end."""
        if self.running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _answer(self) -> str:
        """Return the next line, which is incomplete if the worker died, and empty at the end."""
        assert self._process.stdout is not None
        try:
            return self._process.stdout.readline()
        except ValueError:  # another thread has closed it
            return ""

    def close(self) -> None:
        """End the worker and its run."""
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
