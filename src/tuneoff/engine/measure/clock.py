"""Clock of a training. It waits for the device before training or evaluation time ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from tuneoff.engine.measure.step_timer import StepTimer


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class TrainClock:
    """Measures the time of training, validation and saving, and the throughput of training.

    Args:
        device: Device of the training.
        warmup_steps: Number of steps at the start that the throughput leaves out.
    """

    def __init__(self, device: torch.device, warmup_steps: int) -> None:
        self._device = device
        self._warmup_steps = warmup_steps
        self._steps = 0
        self._before = 0.0
        self._since: float | None = None
        self._warm_seconds = 0.0
        self._warm_samples = self._warm_tokens = 0
        self.samples_so_far = 0
        self.tokens = 0
        self.evaluate_seconds = 0.0
        self.save_seconds = 0.0
        self.step_timer = StepTimer(device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block as training."""
        synchronize(self._device)
        self._since = time.perf_counter()
        try:
            yield
        finally:
            synchronize(self._device)
            self._before = self.seconds_so_far
            self._since = None

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Do not count the time of the block, inside `running`, as training."""
        synchronize(self._device)
        self._before = self.seconds_so_far
        self._since = None
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def state(self) -> dict[str, float]:
        """Return the state for a checkpoint."""
        return {
            "steps": self._steps,
            "before": self.seconds_so_far,
            "warm_seconds": self._warm_seconds,
            "warm_samples": self._warm_samples,
            "warm_tokens": self._warm_tokens,
            "samples": self.samples_so_far,
            "tokens": self.tokens,
            "evaluate_seconds": self.evaluate_seconds,
            "save_seconds": self.save_seconds,
            **self.step_timer.seconds,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore a `state`."""
        self._steps, self._before = int(state["steps"]), state["before"]
        self._warm_seconds = state["warm_seconds"]
        self._warm_samples = int(state["warm_samples"])
        self._warm_tokens = int(state["warm_tokens"])
        self.samples_so_far, self.tokens = int(state["samples"]), int(state["tokens"])
        self.evaluate_seconds = state["evaluate_seconds"]
        self.save_seconds = state.get("save_seconds", 0.0)
        self.step_timer.restore(state)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time of the block as evaluation."""
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize(self._device)
            self.evaluate_seconds += time.perf_counter() - start

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Count the time of the block as saving of weights or checkpoints."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.save_seconds += time.perf_counter() - start

    def step(self, samples: int, tokens: int) -> None:
        """Count a finished step with this many samples and real tokens."""
        self._steps += 1
        self.samples_so_far += samples
        self.tokens += tokens
        if self._steps == self._warmup_steps:
            synchronize(self._device)
            self._warm_seconds = self.seconds_so_far
            self._warm_samples, self._warm_tokens = self.samples_so_far, self.tokens

    @property
    def seconds_so_far(self) -> float:
        """Training time so far, without waiting for the device."""
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    @property
    def train_seconds(self) -> float:
        """Training time up to the end of the last `running` block."""
        return self._before

    @property
    def samples_per_second(self) -> float:
        """Training throughput after the warm-up, or over all steps if there are too few."""
        return self._rate(self.samples_so_far, self._warm_samples)

    @property
    def tokens_per_second(self) -> float:
        """Training throughput in real tokens, as `samples_per_second`."""
        return self._rate(self.tokens, self._warm_tokens)

    def _rate(self, total: int, warm: int) -> float:
        if total == warm:
            return total / self._before
        return (total - warm) / (self._before - self._warm_seconds)
