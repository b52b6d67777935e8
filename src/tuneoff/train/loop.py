"""The training loop: the page to read.

A step is `batch_size` examples. They are laid out without padding, and in pieces if they hold more
tokens than fit at once; the gradient is that of the whole step either way.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from tuneoff.data.batches import batch, by_tokens, count_tokens, share, steps
from tuneoff.data.task import Split, Task
from tuneoff.errors import Diverged
from tuneoff.measure.clock import TrainClock
from tuneoff.measure.memory import PeakMemory
from tuneoff.measure.meter import TrainMeter
from tuneoff.measure.quality import score
from tuneoff.methods.base import Hook
from tuneoff.model.load import Trainee
from tuneoff.model.packed import Classifier
from tuneoff.record import Scores
from tuneoff.spec import TrainSpec
from tuneoff.train.checkpoint import BestCheckpoint
from tuneoff.train.journal import Journal
from tuneoff.train.loss import Loss, class_weights
from tuneoff.train.optimizer import Optimizer
from tuneoff.train.predict import predict


@dataclass(frozen=True)
class Trained:
    """What a training came to; the classifier holds the weights of the best epoch."""

    best_epoch: int
    meter: TrainMeter
    gradient_bytes: int
    optimizer_bytes: int


def train(
    trainee: Trainee,
    task: Task,
    settings: TrainSpec,
    *,
    learning_rate: float,
    metric: str,
    seed: int,
    accelerator: Accelerator,
    journal: Journal,
    memory: PeakMemory,
    best: BestCheckpoint,
) -> Trained:
    """Train `trainee`, choose the best epoch on validation, and leave its weights in place.

    Raises `Diverged` when loss or gradient are no longer finite.
    """
    classifier, masters, hook = trainee.classifier, trainee.masters, trainee.hook
    rows, device = task.splits["train"], accelerator.device
    steps_per_epoch = math.ceil(len(rows) / settings.batch_size)
    total = steps_per_epoch * settings.epochs
    optimizer = Optimizer(
        classifier.model, masters, settings, learning_rate, total, device, trainee.paces
    )
    hook.begin(total)
    loss = Loss(
        class_weights(settings.class_weights, task.labels, rows.labels),
        device,
        smoothing=settings.label_smoothing_factor,
        focal=settings.focal_gamma if settings.loss == "focal" else None,
    )
    model = accelerator.prepare(classifier) if accelerator.num_processes > 1 else classifier
    order = np.random.default_rng(seed)
    meter = TrainMeter(device, max(1, total // 10), memory)
    log = _LossLog(journal, every=max(1, total // 100), total=total)
    step = without_gain = 0

    for epoch in range(1, settings.epochs + 1):
        classifier.train()
        with meter.running():
            for chosen in steps(rows, settings.batch_size, order):
                rate = optimizer.learning_rate
                value = _step(model, rows, chosen, loss, optimizer, hook, accelerator, settings)
                step += 1
                hook.after_step(step, masters)
                optimizer.renew()
                meter.step(len(chosen), count_tokens(rows, [chosen]))
                log.add(value, step, step / steps_per_epoch, rate, meter)
        with meter.evaluating():
            current = _validate(classifier, task, device, epoch, step, journal)
        if best.offer(epoch, getattr(current, metric), masters):
            without_gain = 0
        else:
            without_gain += 1
            if without_gain == settings.early_stopping_patience:
                break

    assert best.epoch is not None
    if best.epoch != epoch:
        best.restore(masters)
        optimizer.renew()
    return Trained(
        best_epoch=best.epoch,
        meter=meter,
        gradient_bytes=optimizer.gradient_bytes(),
        optimizer_bytes=optimizer.state_bytes(),
    )


def _validate(
    classifier: Classifier,
    task: Task,
    device: torch.device,
    epoch: int,
    step: int,
    journal: Journal,
) -> Scores:
    """Scores on the validation split after `epoch`, written to the journal."""
    journal.phase("validate")
    split = task.splits["validation"]
    probabilities = predict(classifier, split, device)
    if not np.isfinite(probabilities).all():
        raise Diverged(f"the model's answers are no longer finite after epoch {epoch}")
    scores = score(split, probabilities, task.labels)
    journal.write(
        "validation",
        step=step,
        epoch=float(epoch),
        loss=scores.log_loss,
        accuracy=scores.accuracy,
        macro_f1=scores.macro_f1,
    )
    return scores


def _step(
    model: torch.nn.Module,
    rows: Split,
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]],
    loss: Loss,
    optimizer: Optimizer,
    hook: Hook,
    accelerator: Accelerator,
    settings: TrainSpec,
) -> Tensor:
    """One optimizer step over the rows `chosen`; returns its mean loss, still on the device.

    The model's own weights are as they were until `optimizer.renew`.
    """
    device = accelerator.device
    labels, weights = torch.from_numpy(rows.labels[chosen]), torch.from_numpy(rows.weights[chosen])
    whole = loss.weights(labels.to(device), weights.to(device)).sum()
    # Gradients are averaged over processes, so that each contributes `num_processes` times its sum.
    # A step whose rows all weigh nothing has no gradient, and not that of 0 / 0.
    scale = accelerator.num_processes / whole.clamp_min(torch.finfo(whole.dtype).tiny)
    mine = share(chosen, accelerator.process_index, accelerator.num_processes)
    pieces = by_tokens(rows.tokens.lengths, mine, settings.micro_batch_tokens)
    value = torch.zeros((), device=device)
    for i, piece in enumerate(pieces):
        inputs = batch(rows, piece).to(device)
        last = i == len(pieces) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            piece_loss = loss(model(inputs), inputs.labels, inputs.weights) * scale
            if last and (penalty := hook.penalty()) is not None:
                piece_loss = piece_loss + penalty
            optimizer.backward(piece_loss)
        value += piece_loss.detach()
    optimizer.step()
    return value


class _LossLog:
    """Collects losses on the device and reads them a hundred times per run, not in each step."""

    def __init__(self, journal: Journal, every: int, total: int) -> None:
        self._journal, self._every, self._total = journal, every, total
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, value: Tensor, step: int, epoch: float, rate: float, clock: TrainClock) -> None:
        self._sum = value if self._sum is None else self._sum + value
        self._count += 1
        if step % self._every == 0 or step == self._total:
            self._write(step, epoch, rate, clock)
        speed = clock.samples_so_far / max(clock.seconds_so_far, 1e-9)
        self._journal.progress(
            "train",
            step=step,
            steps=self._total,
            samples_per_second=speed,
            seconds_left=clock.seconds_so_far / step * (self._total - step),
        )

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
