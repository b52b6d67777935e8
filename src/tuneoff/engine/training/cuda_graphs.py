"""Optimizer steps as CUDA graphs.

A step of BERT-base launches about 900 kernels. For a batch of 8 short texts an H200 computes them
in 4 ms, but the CPU needs 30 ms to launch them one by one (`make gpu-check`); a graph is one
launch. Shapes and addresses of a graph are fixed, so there is one graph for each common size of the
packed row (`cuda_places`), and a batch of a rare size uses the graph of a larger size. All graphs
share a memory pool.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tuneoff.engine.data.batches import Batch, Staging, cuda_places
from tuneoff.engine.kernels.packed_forward import Classifier
from tuneoff.engine.training.optimizer import Optimizer
from tuneoff.methods.base import Hook

log = logging.getLogger(__name__)

WARM_UP = 2
"""Number of steps without a graph before the first capture. They allocate the memory that is
allocated once, such as AdamW's moments."""

WORTH = 20
"""Minimum number of expected replays for a capture, which takes as long as about ten steps."""

MOST_SPARE = 256, 1 / 8
"""Maximum number of unused positions if a batch uses the graph of a larger size: absolute, and
relative to the size of the batch; the larger one applies. The unused positions form a text, whose
attention has quadratic cost."""

Compute = Callable[[Batch], Tensor]


@contextmanager
def compute_stream(device: torch.device) -> Iterator[None]:
    """Use a new stream on a CUDA `device`, because the default stream cannot be captured.

    The whole run uses it, because cuBLAS allocates 32 MB or more for each stream.
    """
    if device.type != "cuda":
        yield
        return
    default, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(default)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        default.wait_stream(stream)


@dataclass(frozen=True)
class _Size:
    """Shapes for which a graph is captured."""

    layout: Staging
    pooled: bool | None
    """Whether the batch has states of first tokens only; None: it has no states."""

    def can_serve(self, other: _Size) -> bool:
        """Return whether a batch of size `other` can use a graph of this size."""
        large, small = self.layout, other.layout
        same = replace(large, places=small.places) == small and self.pooled == other.pooled
        additional, ratio = MOST_SPARE
        return same and 0 <= large.places - small.places <= max(additional, small.places * ratio)


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    block: Tensor
    """Memory from which the graph reads the batch, uint8."""
    states: Tensor | None
    """Memory from which the graph reads states of frozen layers."""
    value: Tensor
    """Memory to which the graph writes the loss."""


class StepGraphs:
    """Captures and replays optimizer steps."""

    def __init__(self, compute: Compute, device: torch.device, total: int, usual: int = 0) -> None:
        """Prepare to capture; nothing is captured yet.

        Args:
            compute: Computes all of a step that runs on the device, and returns the loss.
            device: A CUDA device.
            total: Number of steps of the training.
            usual: Number of tokens that few steps exceed. The graph of this size is captured first:
                graphs of smaller sizes can then reuse its memory, larger ones need more.
        """
        self._compute, self._device, self._total = compute, device, total
        self._usual = cuda_places(usual)
        self._seen: Counter[_Size] = Counter()
        self._captured: dict[_Size, _Captured] = {}
        self._pool: Any = None
        self.failure: str | None = None
        """Reason why no more graphs are captured; None if nothing failed."""

    @staticmethod
    def can_hold(
        classifier: Classifier, optimizer: Optimizer, hook: Hook, device: torch.device
    ) -> bool:
        """Return whether no part of a step has to run on the host.

        Graphs are not used for model families that need padding, for methods that run code after
        each step (AdaLoRA), and in fp16, where the host updates the loss scale.
        """
        return (
            device.type == "cuda"
            and classifier.packs
            and not hook.follows_steps
            and not optimizer.may_skip_steps
        )

    def run(self, batch: Batch, number: int) -> Tensor | None:
        """Compute a step with a graph.

        Args:
            batch: The batch, on the CPU.
            number: Number of the step, counted from 1.

        Returns:
            The loss, on the device; None if there is no graph for the batch.
        """
        states = batch.states
        pooled = None if states is None else len(states) == len(batch.lengths)
        size = _Size(Staging.of(batch), pooled)
        self._seen[size] += 1
        if size not in self._captured and self._is_worth_it(size, number):
            if not self._captured and size.layout.places < self._usual:
                self._capture(batch, replace(size, layout=replace(size.layout, places=self._usual)))
            if self.failure is None:
                self._capture(batch, size)
        size = self._serving(size)
        captured = self._captured.get(size)
        if captured is None or self.failure is not None:
            return None
        inputs = size.layout.send(batch, self._device, captured.block)
        if captured.states is not None:
            assert inputs.states is not None
            captured.states[: len(inputs.states)].copy_(inputs.states)
        captured.graph.replay()
        return captured.value.clone()  # the next replay overwrites it

    def _is_worth_it(self, size: _Size, number: int) -> bool:
        steps = self._seen.total()
        expected = (self._total - number) * self._seen[size] / steps
        return self.failure is None and steps > WARM_UP and expected >= WORTH

    def _serving(self, size: _Size) -> _Size:
        """Return the smallest captured size that a batch of `size` can use, or `size`."""
        candidates = [other for other in self._captured if other.can_serve(size)]
        return min(candidates, key=lambda other: other.layout.places, default=size)

    def _capture(self, batch: Batch, size: _Size) -> None:
        """Capture a step for batches of `size`, with `batch` as an example; nothing is computed."""
        start = time.perf_counter()
        layout, stream = size.layout, torch.cuda.current_stream(self._device)
        block = torch.empty(layout.bytes, dtype=torch.uint8, device=self._device)
        inputs = layout.send(batch, self._device, block)
        states = None
        if inputs.states is not None:
            rows = layout.texts if size.pooled else layout.places
            states = inputs.states.new_zeros(rows, inputs.states.shape[1])
            inputs = replace(inputs, states=states)
        # The graph is used for every batch that fits, so a text may have any length up to this.
        inputs = replace(inputs, bound=layout.places)
        on_default = stream == torch.cuda.default_stream(self._device)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self._pool, None if on_default else stream):
                value = self._compute(inputs)
        except RuntimeError as problem:
            self.failure = f"{type(problem).__name__}: {problem}"
            log.warning("CUDA graphs are disabled: %s", self.failure)
            return
        self._pool = graph.pool()
        self._captured[size] = _Captured(graph, block, states, value)
        seconds = time.perf_counter() - start
        log.info("captured a CUDA graph for %d positions in %.2f s", layout.places, seconds)
