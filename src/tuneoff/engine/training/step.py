"""One optimizer step: gradient of `batch_size` examples, AdamW, update of the model's weights.

The examples are computed without padding, in several pieces if they have more tokens than fit into
memory. The gradient is that of the whole step in both cases.
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
    """Computes optimizer steps on rows of one split."""

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
    """Activation checkpointing, enabled if a single example does not fit into memory; None: never
    enabled."""
    graphs: StepGraphs | None = field(default=None, init=False)

    def capture(self, total: int) -> None:
        """Use CUDA graphs from now on, if possible and faster.

        `total` is the number of optimizer steps of the training.
        """
        if StepGraphs.can_hold(self.classifier, self.optimizer, self.hook, self.device):
            self.graphs = StepGraphs(self._whole_step, self.device, total, self._usual_tokens())

    def _usual_tokens(self) -> int:
        """Return the number of tokens that only one step in forty exceeds.

        This is two standard deviations above the mean.
        """
        lengths = self.rows.tokens.lengths[self.rows.positions]
        texts = min(self.batch_size, len(lengths))
        usual = texts * lengths.mean() + 2 * lengths.std() * texts**0.5
        return int(min(usual, texts * lengths.max()))

    def __call__(self, chosen: Rows, number: int, fits: int) -> tuple[Tensor, int]:
        """Compute an optimizer step on the rows `chosen`.

        If memory runs out, `fits` is halved repeatedly. If a single example does not fit,
        activation checkpointing is enabled (see `spare`).

        Args:
            chosen: Positions of the rows in the split.
            number: Number of the step, counted from 1.
            fits: Maximum number of tokens per forward pass.

        Returns:
            The mean loss, still on the device, and the new value of `fits`.
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
        """Compute the step with a CUDA graph; return the loss, or None if it has no graph."""
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
        """Compute all of a step that runs on the device; a CUDA graph captures this."""
        value = self.loss(self.classifier(inputs), inputs.labels, inputs.weights)
        self.optimizer.backward(value, is_whole=True)
        self.optimizer.change_masters()
        self.optimizer.sync_model()
        return value.detach()

    def _weighed(self, chosen: Rows) -> Batch:
        """Return the rows of a step, with weights that sum to 1 (or to 0 if all of them are 0)."""
        inputs = batch(self.rows, chosen)
        weights = self.loss.weights(inputs.labels, inputs.weights)
        tiny = torch.finfo(weights.dtype).tiny
        return replace(inputs, weights=weights / weights.sum().clamp_min(tiny))

    def _gradient(self, chosen: Rows, pieces: list[Rows]) -> Tensor:
        """Accumulate the gradient of the step over `pieces` of `chosen`; return the mean loss."""
        labels = torch.from_numpy(self.rows.labels[chosen])
        total = self.loss.weights(labels, torch.from_numpy(self.rows.weights[chosen])).sum()
        # If all weights of the step are 0, the gradient is 0, not 0 / 0.
        scale = 1 / total.clamp_min(torch.finfo(total.dtype).tiny)
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
