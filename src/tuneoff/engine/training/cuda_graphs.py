"""Whole optimizer steps as CUDA graphs.

A step of BERT-base launches some 900 kernels. At a batch of 8 short texts an H200 needs 4 ms for
them, and the processor 30 ms to launch them one by one (`make gpu-check`); a graph is one launch.
A graph has fixed shapes and addresses, so there is one for each common size of the packed row
(`cuda_places`); a batch of a rare size takes the graph of a larger one. All graphs share a memory
pool.
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
"""Steps that are taken kernel by kernel before the first capture: they allocate what is allocated
once, AdamW's moments among it."""

WORTH = 20
"""Replays that a capture must be expected to serve: it takes as long as some ten steps."""

MOST_SPARE = 256, 1 / 8
"""A batch takes the graph of a larger size if that has at most so many places more, or this share
of its own: the spare places are a text, whose attention costs the square of their number."""

Compute = Callable[[Batch], Tensor]


@contextmanager
def compute_stream(device: torch.device) -> Iterator[None]:
    """Use a new stream on a CUDA `device`, because the default stream cannot be captured.

    The whole run uses it: cuBLAS keeps 32 MB or more for each stream that it works on.
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
    """What a graph depends on."""

    layout: Staging
    pooled: bool | None
    """Whether the batch brings states of first tokens alone; None: it brings none."""

    def can_serve(self, other: _Size) -> bool:
        """Whether a batch of size `other` fits into a graph of this one without much waste."""
        own, its = self.layout, other.layout
        same = replace(own, places=its.places) == its and self.pooled == other.pooled
        most, share = MOST_SPARE
        return same and 0 <= own.places - its.places <= max(most, its.places * share)


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    block: Tensor
    """uint8: the memory that the graph reads its batch from."""
    states: Tensor | None
    """The memory that it reads states of frozen layers from."""
    value: Tensor
    """Where it writes the step's loss."""


class StepGraphs:
    """Captures and replays steps; `compute` is all that a step computes on the device."""

    def __init__(self, compute: Compute, device: torch.device, total: int, usual: int = 0) -> None:
        """`total`: steps of the training; `usual`: tokens that few of them exceed.

        The graph for `usual` tokens is captured first, since smaller ones then find room in its
        memory, where a larger one would need more.
        """
        self._compute, self._device, self._total = compute, device, total
        self._usual = cuda_places(usual)
        self._seen: Counter[_Size] = Counter()
        self._captured: dict[_Size, _Captured] = {}
        self._pool: Any = None
        self.failure: str | None = None
        """Why no more graphs are captured; None: nothing failed."""

    @staticmethod
    def can_hold(
        classifier: Classifier, optimizer: Optimizer, hook: Hook, device: torch.device
    ) -> bool:
        """Whether no part of a step has to run on the host.

        Families that pad, methods with work between steps (AdaLoRA) and fp16, whose loss scale is
        updated by the host, launch their kernels one by one.
        """
        return (
            device.type == "cuda"
            and classifier.packs
            and not hook.follows_steps
            and not optimizer.may_skip_steps
        )

    def run(self, batch: Batch, number: int) -> Tensor | None:
        """Take a step over `batch`, on the CPU, as a graph; its loss, or None if there is none.

        `number`: of the step, counted from 1.
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
        found = self._captured.get(size)
        if found is None or self.failure is not None:
            return None
        sent = size.layout.send(batch, self._device, found.block)
        if found.states is not None:
            assert sent.states is not None
            found.states[: len(sent.states)].copy_(sent.states)
        found.graph.replay()
        return found.value.clone()  # the next replay writes to the same place

    def _is_worth_it(self, size: _Size, number: int) -> bool:
        steps = self._seen.total()
        expected = (self._total - number) * self._seen[size] / steps
        return self.failure is None and steps > WARM_UP and expected >= WORTH

    def _serving(self, size: _Size) -> _Size:
        """The smallest captured size for a batch of `size`."""
        able = [other for other in self._captured if other.can_serve(size)]
        return min(able, key=lambda other: other.layout.places, default=size)

    def _capture(self, batch: Batch, size: _Size) -> None:
        """Record a step over a batch like `batch`; nothing is computed yet."""
        start = time.perf_counter()
        layout, stream = size.layout, torch.cuda.current_stream(self._device)
        block = torch.empty(layout.bytes, dtype=torch.uint8, device=self._device)
        inputs = layout.send(batch, self._device, block)
        states = None
        if inputs.states is not None:
            rows = layout.texts if size.pooled else layout.places
            states = inputs.states.new_zeros(rows, inputs.states.shape[1])
            inputs = replace(inputs, states=states)
        # The graph serves every batch that fits, whatever the lengths of its texts.
        inputs = replace(inputs, bound=layout.places)
        on_default = stream == torch.cuda.default_stream(self._device)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self._pool, None if on_default else stream):
                value = self._compute(inputs)
        except RuntimeError as problem:
            self.failure = f"{type(problem).__name__}: {problem}"
            log.warning("CUDA graphs are switched off: %s", self.failure)
            return
        self._pool = graph.pool()
        self._captured[size] = _Captured(graph, block, states, value)
        seconds = time.perf_counter() - start
        log.info("captured a step of %d places in %.2f s", layout.places, seconds)
