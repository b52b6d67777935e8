"""Whole optimizer steps as CUDA graphs.

A step of BERT-base launches some 800 kernels. At a batch of 8 short texts the GPU needs about 3 ms
for them and the processor 10 ms or more to launch them one by one; a graph is one launch. A graph
has fixed shapes and addresses, so there is one for each size of the packed row (`cuda_places`)
and number of texts, captured when that size occurs for the third time: the steps before it warm up
what kernels allocate once. All graphs share a memory pool.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tuneoff.data.batches import Batch, Staging, most_spare
from tuneoff.methods.base import Hook
from tuneoff.model.packed import Classifier
from tuneoff.train.optimizer import Optimizer

log = logging.getLogger(__name__)

CAPTURE_AT = 3
"""Occurrence of a size at which its graph is captured."""

WORTH = 20
"""Replays that a capture must be expected to serve: it takes as long as some ten steps."""

Compute = Callable[[Batch], Tensor]


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

    def __init__(self, compute: Compute, device: torch.device, total: int, longest: int) -> None:
        """`total`: steps of the training; `longest`: tokens of its longest text."""
        self._compute, self._device, self._total = compute, device, total
        self._longest = longest
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._steps = 0
        self._captured: dict[tuple[object, ...], _Captured] = {}
        self._pool: object | None = None
        self.capture_seconds = 0.0
        self.replays = 0
        self.failure: str | None = None
        """Why no more graphs are captured; None: nothing failed."""

    @staticmethod
    def can_hold(
        classifier: Classifier, optimizer: Optimizer, hook: Hook, device: torch.device
    ) -> bool:
        """Whether steps leave nothing to the host.

        Families that pad, methods with work between steps (AdaLoRA) and fp16, whose loss scale is
        the host's business, take their steps kernel by kernel.
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
        layout = Staging.of(batch)
        states = None if batch.states is None else len(batch.states) == len(batch.lengths)
        key = (layout, states)
        self._seen[key] += 1
        self._steps += 1
        found = self._captured.get(key)
        if found is None:
            if self.failure is not None or self._seen[key] < CAPTURE_AT:
                return None
            expected = (self._total - number) * self._seen[key] / self._steps
            if expected < WORTH:
                return None
            found = self._capture(batch, layout, pooled=states)
            if found is None:
                return None
            self._captured[key] = found
        sent = layout.send(batch, self._device, found.block)
        if found.states is not None:
            assert sent.states is not None
            found.states[: len(sent.states)].copy_(sent.states)
        found.graph.replay()
        self.replays += 1
        return found.value.clone()  # the next replay writes to the same place

    def _capture(self, batch: Batch, layout: Staging, pooled: bool | None) -> _Captured | None:
        """Record a step over a batch like `batch`; nothing is computed yet. None if that fails."""
        start = time.perf_counter()
        block = torch.empty(layout.bytes, dtype=torch.uint8, device=self._device)
        inputs = layout.send(batch, self._device, block)
        states = None
        if inputs.states is not None:
            rows = layout.texts if pooled else layout.places
            states = inputs.states.new_zeros(rows, inputs.states.shape[1])
            inputs = replace(inputs, states=states)
        # The graph serves every batch of this layout, also one with longer texts than this one.
        bound = max(self._longest, most_spare(layout.places))
        inputs = replace(inputs, bound=bound)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                value = self._compute(inputs)
        except RuntimeError as problem:
            self.failure = f"{type(problem).__name__}: {problem}"
            log.warning("CUDA graphs are switched off: %s", self.failure)
            return None
        self._pool = graph.pool()
        torch.cuda.synchronize(self._device)
        self.capture_seconds += time.perf_counter() - start
        return _Captured(graph, block, states, value)
