"""One optimizer step: the gradient of `batch_size` examples, AdamW, and the model's new weights.

The examples are laid out without padding, and computed in pieces if they hold more tokens than fit
into memory at once; the gradient is that of the whole step either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuneoff.engine.data.batches import Batch, batch, by_tokens
from tuneoff.engine.data.task import Split
from tuneoff.engine.kernels.packed_forward import Classifier
from tuneoff.engine.measure.step_timer import GRAPH, StepTimer
from tuneoff.engine.model.activation_checkpointing import Recomputation
from tuneoff.engine.model.out_of_memory import release_memory, retried
from tuneoff.engine.training.cuda_graphs import StepGraphs
from tuneoff.engine.training.loss import Loss
from tuneoff.engine.training.optimizer import Optimizer
from tuneoff.methods.base import Hook

Rows = npt.NDArray[np.int64]


@dataclass
class Steps:
    """Takes optimizer steps over rows of one split."""

    classifier: Classifier
    rows: Split
    loss: Loss
    optimizer: Optimizer
    hook: Hook
    masters: Mapping[str, Tensor]
    step_timer: StepTimer
    device: torch.device
    batch_size: int
    spare: Recomputation | None
    """Activation checkpointing, to be switched on where a single example does not fit into
    memory."""
    graphs: StepGraphs | None = field(default=None, init=False)

    def capture(self, total: int) -> None:
        """Replay steps as CUDA graphs from now on, where that is possible and worth it.

        `total`: optimizer steps of the training.
        """
        if StepGraphs.can_hold(self.classifier, self.optimizer, self.hook, self.device):
            self.graphs = StepGraphs(self._whole_step, self.device, total, self._usual_tokens())

    def _usual_tokens(self) -> int:
        """Tokens of a step that one in forty exceeds: two standard deviations above the mean."""
        lengths = self.rows.tokens.lengths[self.rows.positions]
        texts = min(self.batch_size, len(lengths))
        usual = texts * lengths.mean() + 2 * lengths.std() * texts**0.5
        return int(min(usual, texts * lengths.max()))

    def __call__(self, chosen: Rows, number: int, fits: int) -> tuple[Tensor, int]:
        """Take step `number`, counted from 1, over the rows `chosen`.

        Returns the mean loss, still on the device, and the tokens that fit into memory at once:
        `fits`, or half of it and so on after memory ran out. Where a single example does not fit,
        the layers keep less, if they may.
        """
        self.step_timer.start()
        lengths = self.rows.tokens.lengths
        is_done = False

        def compute() -> Tensor:
            nonlocal is_done
            pieces = by_tokens(lengths, chosen, fits)
            value = self._replayed(chosen, number) if len(pieces) == 1 else None
            is_done = value is not None
            return self._gradient(chosen, pieces) if value is None else value

        def shrink() -> bool:
            nonlocal fits
            self.graphs = None
            self.optimizer.zero_grad()
            if len(by_tokens(lengths, chosen, fits)) < len(chosen):
                fits = min(fits, int(lengths[chosen].sum())) // 2
            elif self.spare is None or self.spare.on:
                return False
            else:
                self.spare.on = True
            return True

        value = retried(compute, shrink)
        if is_done:
            return value, fits
        self.optimizer.step()
        if self.hook.follows_steps and not (
            self.optimizer.may_skip_steps and self.optimizer.was_skipped()
        ):
            self.hook.after_step(number, self.masters)
        self.optimizer.sync_model()
        self.step_timer.record("optimizer")
        return value, fits

    def _replayed(self, chosen: Rows, number: int) -> Tensor | None:
        """The step by a CUDA graph; None where there is none for it."""
        if self.graphs is None or self.optimizer.is_waiting:
            return None
        if not self.classifier.has_fixed_shapes:
            self.graphs = None
            return None
        value = self.graphs.run(self._weighed(chosen), number)
        if value is not None:
            self.optimizer.count_step()
            self.step_timer.record(GRAPH)
        elif self.graphs.failure is not None:
            self.graphs = None
            self.optimizer.zero_grad()
            release_memory()
        return value

    def _whole_step(self, inputs: Batch) -> Tensor:
        """All that a step computes on the device, as a CUDA graph holds it."""
        value = self.loss(self.classifier(inputs), inputs.labels, inputs.weights)
        self.optimizer.backward(value, is_whole=True)
        self.optimizer.change_masters()
        self.optimizer.sync_model()
        return value.detach()

    def _weighed(self, chosen: Rows) -> Batch:
        """The rows of a step, whose weights add up to 1; all are 0 if no row weighs anything."""
        inputs = batch(self.rows, chosen)
        weights = self.loss.weights(inputs.labels, inputs.weights)
        tiny = torch.finfo(weights.dtype).tiny
        return replace(inputs, weights=weights / weights.sum().clamp_min(tiny))

    def _gradient(self, chosen: Rows, pieces: list[Rows]) -> Tensor:
        """Gather the gradient of the step over `chosen`, in pieces; returns its mean loss."""
        labels = torch.from_numpy(self.rows.labels[chosen])
        whole = self.loss.weights(labels, torch.from_numpy(self.rows.weights[chosen])).sum()
        # A step whose rows all weigh nothing has no gradient, and not that of 0 / 0.
        scale = 1 / whole.clamp_min(torch.finfo(whole.dtype).tiny)
        value = torch.zeros((), device=self.device)
        for i, piece in enumerate(pieces):
            inputs = batch(self.rows, piece)
            weights = self.loss.weights(inputs.labels, inputs.weights) * scale
            inputs = replace(inputs, weights=weights).to(self.device)
            self.step_timer.record("data")
            loss = self.loss(self.classifier(inputs), inputs.labels, inputs.weights)
            if i == len(pieces) - 1 and (penalty := self.hook.penalty()) is not None:
                loss = loss + penalty
            self.step_timer.record("forward")
            self.optimizer.backward(loss, is_whole=len(pieces) == 1)
            self.step_timer.record("backward")
            value += loss.detach()
        return value
