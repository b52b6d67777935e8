"""Scheduling: the plan of a study, and the processes in which its runs execute.

`plan` expands a study to its runs; `study` submits those that have not finished to a `launcher`.
`local` is the launcher for this machine: it sends each run to a worker process (`gpus` and
`capacity` say how many run at a time). `worker` is that process: it loads the engine once and forks
for every run, so that each run has its own memory and a crash ends only that run.
"""

from __future__ import annotations

import os
from typing import Literal

from tuneoff.exceptions import BadInput
from tuneoff.scheduling.capacity import available_cores
from tuneoff.scheduling.launcher import Launcher, Prepared
from tuneoff.scheduling.local import LocalLauncher
from tuneoff.scheduling.process import WORLD_SIZES

__all__ = ["Launcher", "LocalLauncher", "Prepared", "available_cores", "local_launcher"]


def local_launcher(workers: int | str = 1) -> LocalLauncher:
    """Return a launcher for this machine.

    Args:
        workers: Number of runs at a time, or "auto".

    Raises:
        BadInput: `workers` is neither "auto" nor a positive number, or a distributed launcher such
            as torchrun started this process several times.
    """
    _refuse_copies()
    return LocalLauncher(_number_of_workers(workers))


def _number_of_workers(workers: int | str) -> int | Literal["auto"]:
    if workers == "auto":
        return "auto"
    try:
        number = int(workers)
    except ValueError:
        number = 0
    if number < 1:
        raise BadInput(f"workers must be 'auto' or a positive number, not {workers!r}.")
    return number


def _refuse_copies() -> None:
    """Raise `BadInput` if a distributed launcher started this process several times.

    Each copy would run the whole study, because a run uses one process and at most one GPU.
    """
    for name in WORLD_SIZES:
        copies = os.environ.get(name, "")
        if copies.isdigit() and int(copies) > 1:
            raise BadInput(
                f"{name} is {copies}: a distributed launcher started tuneoff {copies} times.",
                hint="Start it once, without torchrun, accelerate launch or mpirun. Use --workers"
                " (workers=…) to distribute the runs of a study over the GPUs.",
            )
