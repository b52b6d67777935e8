"""Where runs execute: a spec goes to a fresh process, a record comes back.

`local` is the desk's side of it, `worker` the other side: a process that holds the engine and
forks for every run, so that a run's memory is its own and its crash nobody else's.
"""

from __future__ import annotations

from tuneoff.errors import BadInput, nearest
from tuneoff.launch.local import LocalLauncher, Prepared, available_cores

LAUNCHERS = ("local",)

__all__ = ["LAUNCHERS", "LocalLauncher", "Prepared", "available_cores", "launcher"]


def launcher(name: str = "local", workers: int = 1) -> LocalLauncher:
    """The launcher of this name; `BadInput` if this version has none."""
    if name not in LAUNCHERS:
        raise BadInput(f"this version has no launcher {name!r}.", mend=nearest(name, LAUNCHERS))
    if workers < 1:
        raise BadInput("workers must be at least 1.")
    return LocalLauncher(workers)
