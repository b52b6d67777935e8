"""Time and memory of a training together, for the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from tuneoff.engine.measure.clock import TrainClock
from tuneoff.engine.measure.memory import PeakMemory


class TrainMeter(TrainClock):
    """A `TrainClock` that also measures the peak memory, separately of training and validation."""

    def __init__(self, device: torch.device, warmup_steps: int, memory: PeakMemory) -> None:
        super().__init__(device, warmup_steps)
        self._memory = memory
        self.peak_bytes = self.evaluate_peak_bytes = 0
        self.reserved_bytes: int | None = None

    def state(self) -> dict[str, float]:
        """Return the state for a checkpoint."""
        return super().state() | {
            "peak_bytes": max(self.peak_bytes, self._memory.peak()),
            "evaluate_peak_bytes": self.evaluate_peak_bytes,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore a `state`."""
        super().restore(state)
        self.peak_bytes = int(state["peak_bytes"])
        self.evaluate_peak_bytes = int(state.get("evaluate_peak_bytes", 0))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count time and memory of the block as training."""
        self._memory.reset()
        with super().running():
            yield
        self.peak_bytes = max(self.peak_bytes, self._memory.peak())
        reserved = self._memory.reserved()
        if reserved is not None:
            self.reserved_bytes = max(self.reserved_bytes or 0, reserved)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count time and memory of the block as validation."""
        self._memory.reset()
        with super().evaluating():
            yield
        self.evaluate_peak_bytes = max(self.evaluate_peak_bytes, self._memory.peak())
