"""Log of the training loss, read from the device a hundred times per run, not in each step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tuneoff.engine.measure.clock import TrainClock
from tuneoff.engine.training.journal import Journal
from tuneoff.exceptions import Diverged


class LossLog:
    """Sums losses on the device, and writes their mean to the journal every `every` steps."""

    def __init__(self, journal: Journal, every: int, total: int) -> None:
        self._journal, self._every, self._total = journal, every, total
        self._sum: Tensor | None = None
        self._count = 0

    def add(
        self, value: Tensor, step: int, epoch: float, rate: Callable[[], float], clock: TrainClock
    ) -> None:
        """Add the loss of a step, and report the progress.

        Args:
            value: Scalar loss, on the device.
            step: Number of the step, counted from 1.
            epoch: Number of epochs done so far, with fraction.
            rate: Returns the learning rate of the step; only called if a line is written.
            clock: Clock of the training.

        Raises:
            Diverged: The mean loss is not finite.
        """
        self._sum = value if self._sum is None else self._sum + value
        self._count += 1
        if step % self._every == 0 or step == self._total:
            self._write(step, epoch, rate(), clock)
        speed = clock.samples_so_far / max(clock.seconds_so_far, 1e-9)
        self._journal.progress(
            "train",
            step=step,
            steps=self._total,
            samples_per_second=speed,
            seconds_left=clock.seconds_so_far / step * (self._total - step),
        )

    def state(self) -> dict[str, Tensor]:
        """Return the sum that is not written yet, for a checkpoint."""
        if self._sum is None:
            return {}
        return {"sum": self._sum, "count": torch.tensor(self._count)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Restore a `state`."""
        if state:
            self._sum, self._count = state["sum"].to(device), int(state["count"])

    def _write(self, step: int, epoch: float, rate: float, clock: TrainClock) -> None:
        assert self._sum is not None
        mean = self._sum.item() / self._count
        self._sum, self._count = None, 0
        if not math.isfinite(mean):
            raise Diverged(f"the loss became {mean} by step {step}")
        self._journal.write(
            "train",
            step=step,
            epoch=epoch,
            loss=mean,
            learning_rate=rate,
            seconds=clock.seconds_so_far,
        )
