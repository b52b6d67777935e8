"""The training loop.

A step computes `batch_size` examples without padding, in several forward passes if they have more
tokens than fit into memory. The gradient is always that of the whole step. An interrupted run
resumes from its last checkpoint, with the same result bit for bit on a CPU.
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
    """Result of a training. The classifier has the weights of the best epoch."""

    best_epoch: int
    meter: TrainMeter
    gradient_bytes: int
    optimizer_bytes: int
    micro_batch_tokens: int
    """Maximum number of tokens of a forward pass, after any reduction for lack of memory."""
    recomputed: bool
    """Whether activations were recomputed in the backward pass."""
    validated: Probabilities | None
    """Probabilities of the validation rows in the best epoch; None if the run resumed after it."""


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
    """Train a model and keep the weights of the epoch with the best validation score.

    Resumes from the last checkpoint, if there is one.

    Args:
        prepared: The model, with the parameters to train.
        task: The prepared task.
        settings: Training settings.
        learning_rate: Peak learning rate.
        metric: Key of the metric that selects the epoch.
        seed: Random seed of the data order.
        device: Device of the model.
        journal: Receives losses and validation scores.
        memory: Measures peak memory.
        evaluation: Tokens of a forward pass in validation, halved if memory runs out.
        best: Stores the best weights so far.
        checkpoints: Stores the state of the training.
        floors: Pruning threshold of each epoch, for trials of a search.
        whole: All training rows, if those of `task` are an excerpt for a forecast. Rows are then
            taken in their order, and what depends on all rows is computed from `whole`.
        trace: Profiler, called after each step.

    Raises:
        Diverged: The loss or a gradient is no longer finite.
        Interrupted: A signal was received; a checkpoint has been written.
        Pruned: The best score so far is worse than the threshold of the epoch.
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
    # Some deterministic algorithms synchronise with the host, which a CUDA graph cannot capture.
    if settings.cuda_graphs and not (settings.deterministic or layers.on or trace is not None):
        step.capture(total)
    log = LossLog(journal, every=max(1, total // 100), total=total)
    resumable = Resumable(checkpoints, prepared, optimizer, order, meter, log, best, journal)
    position = resumable.go_on() or Position(
        micro_batch_tokens=micro_batch_tokens(settings, device)
    )
    fits = position.micro_batch_tokens
    validated: Probabilities | None = None

    while position.epoch <= settings.epochs:
        classifier.train()
        epoch_order = order.bit_generator.state
        chosen_rows = list(steps(rows, settings.batch_size, None if whole else order))
        with meter.running():
            for chosen in chosen_rows[position.steps_in_epoch :]:
                value, fits = step(chosen, position.step + 1, fits)
                position = position.next_step(fits)
                meter.step(len(chosen), count_tokens(rows, [chosen]))
                epoch = position.step / steps_per_epoch
                log.add(value, position.step, epoch, optimizer.last_learning_rate, meter)
                if trace is not None:
                    trace.step(position.step, total)
                if stop.asked_to() or checkpoints.due():
                    with meter.pausing(), meter.saving():
                        resumable.save(position, epoch_order)
                        stop.check()
        with meter.running():
            optimizer.flush()
        with meter.evaluating():
            scores, probabilities = _validate(
                classifier, task, device, metric, position.epoch, position.step, journal, evaluation
            )
        with meter.saving():
            better = best.offer(position.epoch, getattr(scores, metric), masters)
        validated = probabilities if better else validated
        if best.is_below(floors, position.epoch):
            raise Pruned(
                f"ended after epoch {position.epoch} of {settings.epochs}: the validation {metric}"
                f" {best.score:.4f} is worse than the median of earlier trials,"
                f" {floors[position.epoch - 1]:.4f}"
            )
        position = position.next_epoch(better)
        if position.without_gain == settings.early_stopping_patience:
            break

    assert best.epoch is not None
    if best.epoch != position.epoch - 1:
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
    """Return the maximum number of tokens of a forward pass, before any reduction.

    On a CPU, more tokens than fit in the caches are not faster: steps of 16 reviews with MiniLM are
    as fast in passes of 2,048 tokens as in one of 4,300, and take 1.1 GB instead of 1.4 GB.
    """
    if settings.micro_batch_tokens is not None:
        return settings.micro_batch_tokens
    return 2_048 if device.type == "cpu" else 16_384


def _sparse_embedding(prepared: PreparedModel, rows: Split) -> tuple[str, SparseEmbedding] | None:
    """Return the name and a sparse optimizer of the token embeddings, if they are trained."""
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
    """Predict the validation split and write its scores to the journal."""
    journal.phase("validate")
    split = task.splits["validation"]
    probabilities = predict(classifier, split, device, lambda *_: stop.check(), size)
    if not np.isfinite(probabilities).all():
        raise Diverged(f"the predicted probabilities are not finite after epoch {epoch}")
    scores = score(split, probabilities, task.labels)
    shown = {key: getattr(scores, key) for key in ("accuracy", "macro_f1", metric)}
    journal.write("validation", step=step, epoch=float(epoch), loss=scores.log_loss, **shown)
    return scores, probabilities
