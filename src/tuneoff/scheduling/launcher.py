"""What executes the runs of studies, searches and forecasts.

A study needs these operations and no more, wherever its runs execute. `local` is the launcher for
this machine; another one, for a cluster, implements the same protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tuneoff.config import Device, Precision, RunSpec, StudySpec
from tuneoff.results.record import TaskRecord
from tuneoff.results.store import RunFolder

Event = dict[str, Any]
"""A progress event of a worker."""


@dataclass(frozen=True)
class Prepared:
    """A task on disk, and the model that it was tokenised for."""

    task: TaskRecord
    task_path: Path
    """Folder of the task."""
    model_path: Path
    """Folder of the model."""
    device: Device
    """Device on this machine; never "auto"."""
    precision: Precision
    """Precision on this machine if it is "auto" in the study."""
    hidden_size: int = 768
    """Hidden size of the model, on which default learning rates depend."""


@dataclass(frozen=True)
class Exit:
    """How the process of a run ended."""

    code: int
    """Exit code, or minus the number of the signal that killed it."""
    out_of_memory: bool
    """Whether the system's out-of-memory killer was active during the run."""
    interrupted: bool
    """Whether this process ended the run."""
    trouble: str | None = None
    """A problem of the disk, which the process could not write to the record."""


class Launcher(Protocol):
    """Executes runs. `run` and `check` may be called from several threads."""

    workers: int
    """Number of runs at a time. It may change when a study is prepared."""

    def prepare(self, study: StudySpec, folder: Path, watch: Callable[[Event], None]) -> Prepared:
        """Choose the device, find the model, and check, split and tokenise the data of a study.

        Each method is then tried on a model without weights, and the model itself is checked.

        Args:
            study: The completed specification.
            folder: Folder of prepared tasks.
            watch: Called with each progress event.

        Raises:
            BadInput: The input is invalid. The data is checked before the model and the methods.
            RunFailed: The worker died.
        """
        ...

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
        """Write an excerpt of a task to the new `folder` (see `tuneoff.engine.data.excerpt`).

        Args:
            prepared: The task.
            folder: Folder of the excerpt.
            batch_size: Number of examples per step.
            epochs: Number of epochs of the full training.
            seeds: Seeds of the full trainings.
            train_rows: Number of training rows, for classical methods.

        Returns:
            The `path` of the excerpt, and its numbers of rows, tokens and steps and those of the
            task.
        """
        ...

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
        """Execute a run, and wait for its end; the record is in `folder`.

        Args:
            spec: Specification of the run.
            folder: Folder of the run, which must contain the specification.
            prepared: The task and the model.
            watch: Called with each progress event.
            whole: Folder of the task of which `prepared` has an excerpt, for a forecast.
            profile: Whether to write a trace of some steps.
        """
        ...

    def check(self, folder: RunFolder, prepared: Prepared) -> None:
        """Check that the saved model of a finished run gives the same output as in the run."""
        ...

    def close(self, grace: float = 0.0) -> None:
        """End all workers and their runs.

        Args:
            grace: Time for the runs to write a checkpoint first, in seconds; 0 ends them at once.
        """
        ...
