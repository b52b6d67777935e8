"""The training loop: the page to read.

A step is `batch_size` examples. They are laid out without padding, and in pieces if they hold more
tokens than fit at once; the gradient is that of the whole step either way. A run that died goes on
from its last checkpoint, and ends bit for bit as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tuneoff.config import TrainSpec
from tuneoff.engine.data.batches import count_tokens, steps
from tuneoff.engine.data.task import Split, Task
from tuneoff.engine.kernels.packed_forward import Classifier, unwrapped
from tuneoff.engine.kernels.sparse_embedding import SparseEmbedding, can_be_taken_apart, seen_ids
from tuneoff.engine.measure.memory import PeakMemory
from tuneoff.engine.measure.meter import TrainMeter
from tuneoff.engine.measure.profile import Trace
from tuneoff.engine.measure.quality import score
from tuneoff.engine.model.activation_checkpointing import Recomputation
from tuneoff.engine.model.load import PreparedModel
from tuneoff.engine.model.out_of_memory import PassSize
from tuneoff.engine.training import stop
from tuneoff.engine.training.checkpoint import BestCheckpoint, Checkpoints
from tuneoff.engine.training.journal import Journal
from tuneoff.engine.training.loss import Loss, class_weights
from tuneoff.engine.training.loss_log import LossLog
from tuneoff.engine.training.optimizer import Optimizer
from tuneoff.engine.training.predict import predict
from tuneoff.engine.training.resume import Position, Resumable
from tuneoff.engine.training.step import Steps
from tuneoff.exceptions import Diverged, Pruned
from tuneoff.results.record import Scores

Probabilities = npt.NDArray[np.float32]
"""(rows, labels)"""


@dataclass(frozen=True)
class Trained:
    """What a training came to; the classifier holds the weights of the best epoch."""

    best_epoch: int
    meter: TrainMeter
    gradient_bytes: int
    optimizer_bytes: int
    micro_batch_tokens: int
    """What fitted into memory at once."""
    recomputed: bool
    """Whether the layers were computed again in the backward pass."""
    validated: Probabilities | None
    """Of the validation rows, by the best epoch; None where the run was interrupted after it."""


def train(
    prepared: PreparedModel,
    task: Task,
    settings: TrainSpec,
    *,
    learning_rate: float,
    metric: str,
    seed: int,
    device: torch.device,
    journal: Journal,
    memory: PeakMemory,
    evaluation: PassSize,
    best: BestCheckpoint,
    checkpoints: Checkpoints,
    floors: Sequence[float] = (),
    whole: Split | None = None,
    trace: Trace | None = None,
) -> Trained:
    """Train `prepared`, choose the best epoch on validation, and leave its weights in place.

    Goes on from the last of `checkpoints`, if there is one. Raises `Diverged` when loss or gradient
    are no longer finite, `Interrupted`, after a checkpoint, when the run is asked to end, and
    `Pruned` when the best score so far is worse than `floors` has it for the epoch.

    `whole`: the training rows of which those of `task` are a few steps, for a forecast. They are
    taken as they stand, and whatever depends on all rows is as if they were there. `trace` is told
    when a step is done. `evaluation` is halved where validation runs out of memory.
    """
    classifier, masters, hook = prepared.classifier, prepared.masters, prepared.hook
    rows = task.splits["train"]
    steps_per_epoch = math.ceil(len(rows.positions) / settings.batch_size)
    total = steps_per_epoch * settings.epochs
    seen = _sparse_embedding(prepared, whole or rows) if device.type == "cpu" else None
    optimizer = Optimizer(
        classifier.model,
        masters,
        settings,
        learning_rate,
        total,
        device,
        prepared.param_groups,
        seen,
        keeps_gradients=hook.follows_steps,
    )
    hook.begin(total)
    loss = Loss(
        class_weights(settings.class_weights, task.labels, rows.labels),
        device,
        smoothing=settings.label_smoothing_factor,
        focal=settings.focal_gamma if settings.loss == "focal" else None,
    )
    order = np.random.default_rng(seed)
    meter = TrainMeter(device, max(1, total // 10), memory)
    layers = Recomputation(classifier, prepared.dropout)
    layers.on = settings.gradient_checkpointing is True
    spare = layers if settings.gradient_checkpointing == "auto" else None
    size = settings.batch_size
    timer = meter.step_timer
    step = Steps(classifier, rows, loss, optimizer, hook, masters, timer, device, size, spare)
    # Deterministic algorithms wait for the device at times, which no graph can hold.
    if settings.cuda_graphs and not (settings.deterministic or layers.on or trace is not None):
        step.capture(total)
    log = LossLog(journal, every=max(1, total // 100), total=total)
    resumable = Resumable(checkpoints, prepared, optimizer, order, meter, log, best, journal)
    at = resumable.go_on() or Position(micro_batch_tokens=micro_batch_tokens(settings, device))
    fits = at.micro_batch_tokens
    validated: Probabilities | None = None

    while at.epoch <= settings.epochs:
        classifier.train()
        epoch_order = order.bit_generator.state
        chosen_rows = list(steps(rows, settings.batch_size, None if whole else order))
        with meter.running():
            for chosen in chosen_rows[at.steps_in_epoch :]:
                value, fits = step(chosen, at.step + 1, fits)
                at = at.next_step(fits)
                meter.step(len(chosen), count_tokens(rows, [chosen]))
                epoch = at.step / steps_per_epoch
                log.add(value, at.step, epoch, optimizer.last_learning_rate, meter)
                if trace is not None:
                    trace.step(at.step, total)
                if stop.asked_to() or checkpoints.due():
                    with meter.pausing(), meter.saving():
                        resumable.save(at, epoch_order)
                        stop.check()
        with meter.running():
            optimizer.flush()
        with meter.evaluating():
            current, answers = _validate(
                classifier, task, device, metric, at.epoch, at.step, journal, evaluation
            )
        with meter.saving():
            better = best.offer(at.epoch, getattr(current, metric), masters)
        validated = answers if better else validated
        if best.is_below(floors, at.epoch):
            raise Pruned(
                f"ended after epoch {at.epoch} of {settings.epochs}: {metric} {best.score:.4f} on"
                f" validation, and {floors[at.epoch - 1]:.4f} is the median of the trials before"
            )
        at = at.next_epoch(better)
        if at.without_gain == settings.early_stopping_patience:
            break

    assert best.epoch is not None
    if best.epoch != at.epoch - 1:
        best.restore(masters)
        optimizer.reload()
    return Trained(
        best_epoch=best.epoch,
        meter=meter,
        gradient_bytes=optimizer.gradient_bytes(),
        optimizer_bytes=optimizer.state_bytes(),
        micro_batch_tokens=fits,
        recomputed=layers.on,
        validated=validated,
    )


def micro_batch_tokens(settings: TrainSpec, device: torch.device) -> int:
    """Real tokens per forward pass, unless memory says otherwise.

    A CPU gains nothing by more than its caches hold: reviews with MiniLM, 16 a step, run as fast in
    pieces of 2,048 tokens as in one of 4,300 and take 1.1 GB in place of 1.4.
    """
    if settings.micro_batch_tokens is not None:
        return settings.micro_batch_tokens
    return 2_048 if device.type == "cpu" else 16_384


def _sparse_embedding(prepared: PreparedModel, rows: Split) -> tuple[str, SparseEmbedding] | None:
    """The token embeddings, if they train, by name and by the rows that `rows` can change."""
    model = prepared.classifier.model
    embedding = unwrapped(model).get_input_embeddings()
    name = next((n for n, w in model.named_parameters() if w is embedding.weight), None)
    master = prepared.masters.get(name) if name else None
    if name is None or master is None or not can_be_taken_apart(embedding):
        return None
    return name, SparseEmbedding(embedding, master, seen_ids(rows.tokens, len(embedding.weight)))


def _validate(
    classifier: Classifier,
    task: Task,
    device: torch.device,
    metric: str,
    epoch: int,
    step: int,
    journal: Journal,
    size: PassSize,
) -> tuple[Scores, Probabilities]:
    """Scores on the validation split after `epoch`, written to the journal, and the answers."""
    journal.phase("validate")
    split = task.splits["validation"]
    probabilities = predict(classifier, split, device, lambda *_: stop.check(), size)
    if not np.isfinite(probabilities).all():
        raise Diverged(f"the model's answers are no longer finite after epoch {epoch}")
    scores = score(split, probabilities, task.labels)
    told = {key: getattr(scores, key) for key in ("accuracy", "macro_f1", metric)}
    journal.write("validation", step=step, epoch=float(epoch), loss=scores.log_loss, **told)
    return scores, probabilities
