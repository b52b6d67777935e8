"""Run of a method with an encoder, trained or not."""

from __future__ import annotations

from safetensors.torch import save_file
from torch import Tensor

from tuneoff.engine.data.batches import inference_tokens
from tuneoff.engine.data.task import Task
from tuneoff.engine.job import Answers, Job, Outcome, scored, write_predictions
from tuneoff.engine.kernels.arithmetic import has_tf32
from tuneoff.engine.kernels.packed_forward import Classifier
from tuneoff.engine.measure.compute import product_rate, training_flops
from tuneoff.engine.measure.latency import latency_seconds
from tuneoff.engine.measure.memory import PeakMemory, weight_bytes
from tuneoff.engine.measure.parameters import count_parameters
from tuneoff.engine.measure.storage import storage_bytes
from tuneoff.engine.model.activation_cache import (
    CachedActivations,
    cache_activations,
    frozen_layers,
)
from tuneoff.engine.model.load import PreparedModel, load_classifier
from tuneoff.engine.model.out_of_memory import PassSize
from tuneoff.engine.model.precision import DTYPES, Precision, rounding
from tuneoff.engine.model.save import save_classifier
from tuneoff.engine.training import stop
from tuneoff.engine.training.checkpoint import BestCheckpoint, Checkpoints
from tuneoff.engine.training.journal import Journal
from tuneoff.engine.training.loop import Probabilities, Trained, micro_batch_tokens, train
from tuneoff.engine.training.predict import answer_one, predict
from tuneoff.engine.verification.after_training import (
    ParameterSnapshot,
    alone_and_mixed,
    sample_logits,
)
from tuneoff.results.record import Checks, Cost

LAYOUTS = {
    "right": "padded batches, because this architecture does not support packing yet",
    "left": "batches padded on the left, because padding on the right would change the logits",
    "none": "batches of texts of equal length, because any padding would change the logits",
}
"""Deviation in the record of a model that is not packed, by its padding."""


def run_encoder(job: Job, outcome: Outcome, journal: Journal) -> None:
    """Load and train the model, evaluate it once on the test split, and save it."""
    memory = PeakMemory(job.device)
    size = PassSize(inference_tokens(job.device))
    journal.phase("load")
    with outcome.timed("load"):
        prepared = load_classifier(
            job.model_path,
            job.task.labels,
            job.method,
            job.config,
            dtype=DTYPES[job.precision],
            device=job.device,
            attention_dropout=job.spec.train.attention_dropout,
            seed=job.spec.seed,
        )
    classifier = prepared.classifier
    outcome.parameters = count_parameters(classifier.model, classifier.architecture)
    outcome.deviations = _deviations(job, classifier)
    task, cached = _below_the_first_trained(job, prepared, outcome, size)
    weights = weight_bytes(classifier.model)
    snapshot = ParameterSnapshot(prepared)
    trained = None
    if prepared.masters:
        trained = _trained(job, prepared, task, outcome, journal, memory, size)
    memory.reset()
    validated = trained.validated if trained else None
    answers = _evaluate(job, task, classifier, outcome, journal, validated, size)
    if size.tokens < size.planned:
        outcome.warnings.append(
            f"memory ran out: evaluation used forward passes of {size.tokens:,} tokens instead of"
            f" {size.planned:,} (the result is the same)"
        )
    evaluate_peak = max(memory.peak(), trained.meter.evaluate_peak_bytes if trained else 0)
    latency = _latency(job, classifier, outcome)
    share = trained.best_epoch / job.spec.train.epochs if trained else 1.0
    validation = job.task.splits["validation"]
    logits = sample_logits(classifier, validation, job.device)
    outcome.checks = Checks(
        snapshot.unchanged(prepared, share),
        snapshot.changed(prepared),
        alone=alone_and_mixed(
            classifier,
            validation,
            logits,
            job.device,
            precision=_rounding(job),
            quantized=job.method.quantized,
        ),
    )
    stored: int | None = None
    if job.spec.trial is None:
        journal.phase("save")
        with outcome.timed("save"):
            _save(job, prepared, answers, logits)
            stored = storage_bytes(job.folder.model, classifier.model) if trained else 0
    outcome.cost = Cost(
        train_seconds=trained.meter.train_seconds + (cached.seconds if cached else 0.0)
        if trained
        else None,
        evaluate_seconds=outcome.seconds.get("evaluate"),
        samples_per_second=trained.meter.samples_per_second if trained else None,
        tokens_per_second=trained.meter.tokens_per_second if trained else None,
        latency_seconds=latency,
        peak_memory_bytes=trained.meter.peak_bytes if trained else None,
        memory=_memory_parts(weights, trained, evaluate_peak, memory.reserved()),
        storage_bytes=stored,
        flops_utilization=_utilization(job, classifier, trained, cached) if trained else None,
    )


def _below_the_first_trained(
    job: Job, prepared: PreparedModel, outcome: Outcome, size: PassSize
) -> tuple[Task, CachedActivations | None]:
    """Return the task, with cached states of the frozen layers if they are used."""
    settings = job.spec.train
    frozen = frozen_layers(prepared) if settings.frozen_prefix != "dropout" else 0
    task, cached = job.task, None
    if frozen:
        prepared.classifier.freeze_below(frozen)
    if frozen and settings.frozen_prefix == "stored":
        with outcome.timed("prefix"):
            task, cached = cache_activations(prepared, task, job.identity, job.device, frozen, size)
    outcome.deviations |= _cache_deviations(frozen, cached)
    return task, cached


def _trained(
    job: Job,
    prepared: PreparedModel,
    task: Task,
    outcome: Outcome,
    journal: Journal,
    memory: PeakMemory,
    size: PassSize,
) -> Trained:
    settings = job.spec.train
    assert job.learning_rate is not None
    trained = train(
        prepared,
        task,
        settings,
        learning_rate=job.learning_rate,
        metric=job.spec.metric,
        seed=job.spec.seed,
        device=job.device,
        journal=journal,
        memory=memory,
        evaluation=size,
        best=BestCheckpoint(job.folder.checkpoint, job.spec.metric),
        checkpoints=Checkpoints(
            job.folder.checkpoint, job.spec.run_id, settings.checkpoint_seconds
        ),
        floors=job.spec.trial.floors if job.spec.trial else (),
        whole=job.whole,
        trace=job.trace,
    )
    outcome.seconds.update(
        train=trained.meter.train_seconds,
        validate=trained.meter.evaluate_seconds,
        checkpoint=trained.meter.save_seconds,
    )
    outcome.step_seconds = trained.meter.step_timer.seconds
    outcome.best_epoch = trained.best_epoch
    planned = micro_batch_tokens(settings, job.device)
    if trained.micro_batch_tokens < planned:
        outcome.warnings.append(
            f"memory ran out: steps were computed in pieces of {trained.micro_batch_tokens:,}"
            f" tokens instead of {planned:,} (the result is the same)"
        )
    if trained.recomputed and settings.gradient_checkpointing == "auto":
        outcome.warnings.append(
            "memory ran out for a single example: activations were recomputed in the backward pass"
            " (gradient_checkpointing; the result is the same, but training takes longer)"
        )
    return trained


def _evaluate(
    job: Job,
    task: Task,
    classifier: Classifier,
    outcome: Outcome,
    journal: Journal,
    validated: Probabilities | None,
    size: PassSize,
) -> Answers:
    """Predict and score all splits with the best checkpoint. Only this reads the test split.

    `validated` has the probabilities of the validation rows, if the training has computed them.
    """
    splits = task.splits
    answers: Answers = {}

    def progress(done: int, rows: int) -> None:
        stop.check()
        journal.progress("test", step=done, steps=rows)

    if validated is None:
        with outcome.timed("validate"):
            validated = predict(classifier, splits["validation"], job.device, size=size)
    answers["validation"] = validated
    if "test" in splits:
        with outcome.timed("evaluate"):
            answers["test"] = predict(classifier, splits["test"], job.device, progress, size)
    outcome.quality = scored(job.task, answers)
    return answers


def _latency(job: Job, classifier: Classifier, outcome: Outcome) -> float | None:
    """Measure the latency of single test texts; None for a trial, which has no test rows.

    All layers are computed, because new texts have no cached states. Nothing is scored.
    """
    test = job.task.splits.get("test")
    if test is None:
        return None

    def answer(row: int) -> None:
        stop.check()
        answer_one(classifier, test, row, job.device)

    with outcome.timed("latency"):
        return latency_seconds(answer, test.tokens.lengths)


def _save(job: Job, prepared: PreparedModel, answers: Answers, logits: Tensor) -> None:
    """Save the model, the predictions, and logits with which a new process compares the model."""
    save_file({"logits": logits}, job.folder.sample_file)
    write_predictions(job.folder, job.task, answers)
    save_classifier(
        prepared,
        job.model_path,
        job.folder.model,
        method=job.method,
        config=job.config,
        name=job.spec.model,
    )


def _memory_parts(
    weights: int,
    trained: Trained | None,
    evaluate_peak: int,
    reserved: int | None,
) -> dict[str, int | None]:
    """Return the peak memory of training by part; activations are the rest."""
    parts: dict[str, int | None] = {"weights": weights}
    if trained is not None:
        reserved = trained.meter.reserved_bytes
        others = weights + trained.gradient_bytes + trained.optimizer_bytes
        parts |= {
            "gradients": trained.gradient_bytes,
            "optimizer_state": trained.optimizer_bytes,
            "activations": max(0, trained.meter.peak_bytes - others),
        }
    return parts | {
        "train_peak": trained.meter.peak_bytes if trained else None,
        "evaluate_peak": evaluate_peak,
        "reserved_peak": reserved,
    }


def _utilization(
    job: Job, classifier: Classifier, trained: Trained, cached: CachedActivations | None
) -> float | None:
    """Return the utilisation of the hardware; None if no layer is computed in a step.

    What such a step computes consists of other operations than matrix products.
    """
    rows = job.task.splits["train"]
    lengths = rows.tokens.lengths[rows.positions]
    above = cached.layers if cached else 0
    if above == len(classifier.architecture.layers):
        return None
    needed = training_flops(classifier.model, classifier.architecture, lengths, above)
    per_token = needed / float(lengths.sum())
    rate = product_rate(DTYPES[job.precision], job.device)
    return per_token * trained.meter.tokens / trained.meter.train_seconds / rate


def _cache_deviations(layers: int, cached: CachedActivations | None) -> dict[str, str]:
    if not layers:
        return {}
    text = f"the frozen embeddings and {layers} layers are computed without dropout"
    if cached:
        text += (
            f", once for all runs of the study: {cached.bytes / 1e6:,.0f} MB on disk; the time of"
            f" {cached.seconds:.1f} s counts as training time of each run"
        )
    return {"frozen_prefix": text + " (frozen_prefix: dropout restores the standard behaviour)"}


def _uses_tf32(job: Job) -> bool:
    return job.spec.train.tf32 and has_tf32(job.device)


def _rounding(job: Job) -> Precision:
    return rounding(job.precision, _uses_tf32(job))


def _deviations(job: Job, classifier: Classifier) -> dict[str, str]:
    """Return the deviations of the engine from standard training."""
    deviations = {}
    if job.spec.train.attention_dropout != "model":
        deviations["attention_dropout"] = (
            f"{job.spec.train.attention_dropout} instead of the model's rate"
            " (attention_dropout: model restores it)"
        )
    if job.device.type == "cpu":
        deviations["dropout"] = "rates are multiples of 1/256 on a CPU (0.1 becomes 26/256)"
    if _uses_tf32(job):
        deviations["tf32"] = (
            "products of float32 matrices use TF32, 10 bits of mantissa (tf32: false restores"
            " float32)"
        )
    if job.precision != "fp32":
        deviations["precision"] = f"the body computes in {job.precision}, the head in fp32"
    if not classifier.packs:
        deviations["layout"] = LAYOUTS[classifier.padding or "right"]
    return deviations
