"""Checks of the costs: budgets, machines, padding, parameter counts, and runs at chance level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.audit.evidence import AuditEvidence, joined, names_of, run_ids
from tuneoff.audit.finding import Finding, Kind, check
from tuneoff.results.record import Parameters, RunRecord
from tuneoff.results.scores import at_chance

BUDGET = ("epochs", "batch_size", "max_length", "precision", "train_rows")
"""Settings on which time, memory or throughput depend directly, and the number of training rows."""

MACHINE = ("machine", "processor", "cores", "threads", "device", "gpu_memory_bytes", "preload")
"""Fields of an environment that describe the machine."""

SOFTWARE = ("torch", "transformers", "versions", "cuda", "driver")
"""Fields of an environment that describe the software."""

TOKENS_APART = 1.25
"""Ratio of counted to real tokens per text above which the counted ones include padding. Without
padding the ratio is close to 1; it varies with the rows that the throughput was measured on."""

PERCENT_APART = 0.01
"""Tolerated relative difference between the stated and the computed percentage of trainable
parameters."""


@check(
    "chance-level-in-cost",
    "The cost comparison includes a run at chance level",
    "A run whose predictions are no better than guessing is useless at any cost. Its time and"
    " memory are misleading in a comparison with methods that learned something.",
    published=True,
)
def chance_level_in_cost(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs with costs whose predictions on the test rows are no better than guessing."""
    if len(names_of(evidence.finished)) < 2:
        return None
    guessing = [
        record
        for record in evidence.finished
        if record.method.family != "baseline"
        and _has_cost(record)
        and record.quality.test is not None
        and at_chance([record.quality.test])
    ]
    if not guessing:
        return None
    found = {name: evidence.accuracy[name] for name in names_of(guessing)}
    messages = [f"{name} (accuracy {100 * value:.1f} %)" for name, value in found.items()]
    labels = len(guessing[0].data.labels)
    return kind.found(
        f"These methods are no better than guessing among {labels} labels, but are in the cost"
        f" comparison: {joined(messages)}.",
        "Change the training (learning rate, epochs, precision) and rerun the study, or remove the"
        " method from the study.",
        run_ids(guessing),
    )


def _has_cost(record: RunRecord) -> bool:
    cost = record.cost
    known = (cost.train_seconds, cost.samples_per_second, cost.peak_memory_bytes)
    return any(value is not None for value in known)


@check(
    "unequal-budget",
    "The methods were trained with different budgets",
    "Time, memory and throughput depend on epochs, batch size, length and precision at least as"
    " much as on the method.",
    published=True,
)
def unequal_budget(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find fine-tuned methods with different epochs, batch sizes, lengths, precisions or rows."""
    messages = []
    for key in BUDGET:
        seen: dict[str, list[RunRecord]] = {}
        for record in evidence.trained:
            value = record.data.train_rows if key == "train_rows" else record.train.get(key)
            if value is not None:
                seen.setdefault(fmt.setting(value), []).append(record)
        if len(seen) > 1:
            values = [f"{value} ({joined(names_of(runs), 3)})" for value, runs in seen.items()]
            messages.append(f"{key.replace('_', ' ')} {joined(values)}")
    if not messages:
        return None
    return kind.found(
        f"The methods were trained with different settings: {'; '.join(messages)}.",
        "Use the same values for all methods. If only the epochs differ, compare cost per epoch.",
        run_ids(evidence.trained),
    )


@check(
    "head-counted-twice",
    "Parameters are counted twice, or do not add up",
    "Some tools keep the original head in addition to the trained copy. Counting both makes the"
    " total too large and the trainable percentage too small.",
    published=True,
)
def head_counted_twice(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find parameter counts that do not add up, or a total that counts the head twice.

    The size of the plain model is the total of a method that adds no parameters (`full`, `head`,
    `baseline`). The total of other methods is this size plus at least their `trainable_body`.
    """
    counted = [
        (record, record.parameters)
        for record in evidence.finished
        if record.parameters and record.method.family != "classical"
    ]
    plain = [p.total for r, p in counted if not _adds_weights(r)]
    base = min(plain, default=None)
    miscounted: list[RunRecord] = []
    messages: dict[str, str] = {}
    for record, parameters in counted:
        text = _miscount(parameters, _least_total(record, parameters, base))
        if text:
            miscounted.append(record)
            messages.setdefault(record.method.name, text)
    if not miscounted:
        return None
    name, text = next(iter(messages.items()))
    more = f" (and {len(messages) - 1} more methods)" if len(messages) > 1 else ""
    return kind.found(
        f"{name}{more}: {text}.",
        "Count every parameter once, and do not count a head that was replaced. tuneoff's own"
        " counts do this.",
        run_ids(miscounted),
    )


def _adds_weights(record: RunRecord) -> bool:
    """Return whether the method adds parameters to those of the model."""
    return record.method.family not in ("baseline", "selective", "loss")


def _least_total(record: RunRecord, parameters: Parameters, base: int | None) -> int | None:
    """Return the least possible total without a head counted twice; None if it is unknown."""
    if record.method.method in ("full", "weighted"):  # all parameters are trainable
        return parameters.trainable
    if base is None:
        return None
    return base + (parameters.trainable_body if _adds_weights(record) else 0)


def _miscount(parameters: Parameters, expected: int | None) -> str | None:
    """Describe what is wrong with the counts; `expected` is the least possible total."""
    p = parameters
    if p.trainable != p.trainable_body + p.trainable_head:
        return (
            f"{p.trainable:,} trainable parameters are stated, but body and head together have"
            f" {p.trainable_body + p.trainable_head:,}"
        )
    if p.trainable > p.total:
        return f"{p.trainable:,} trainable parameters are more than the total of {p.total:,}"
    percent = 100 * p.trainable / p.total if p.total else 0.0
    if abs(p.trainable_percent - percent) > PERCENT_APART * max(percent, p.trainable_percent):
        return (
            f"{fmt.percent(p.trainable_percent)} trainable parameters are stated, but the counts"
            f" give {fmt.percent(percent)}"
        )
    if expected is not None and p.trainable_head and p.total == expected + p.trainable_head:
        return (
            f"the total of {p.total:,} parameters is too large by {p.trainable_head:,}, which is"
            " exactly the size of the head"
        )
    return None


@check(
    "padded-throughput",
    "The throughput includes padding",
    "If all texts are padded to the maximum length, the speed is that of padding rather than of"
    " the method, and tokens per second are not tokens of the data.",
    published=True,
)
def padded_throughput(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs padded to the maximum length, or with more counted tokens than the texts have."""
    declared = [record for record in evidence.trained if _declares_padding(record)]
    if declared:
        return _padded(
            kind,
            f"According to the records of {joined(names_of(declared))}, every text was padded to"
            " the maximum length.",
            declared,
        )
    task = evidence.task
    if task is None or "train" not in task.splits:
        return None
    train = task.splits["train"]
    real = train.lengths.mean * (1 - train.cut_tokens_share)  # tokens per text, after truncation
    found = [
        (record, tokens)
        for record in evidence.trained
        if (tokens := _tokens_per_text(record)) is not None and tokens > TOKENS_APART * real
    ]
    if not found:
        return None
    runs, most = [record for record, _ in found], max(tokens for _, tokens in found)
    return _padded(
        kind,
        f"The records of {joined(names_of(runs))} count {most:,.0f} tokens per text, but the"
        f" training texts have {real:,.0f} on average (truncated at {task.max_length:,}).",
        runs,
    )


def _padded(kind: Kind, message: str, runs: Sequence[RunRecord]) -> Finding:
    return kind.found(
        message,
        "Use no padding, or pad each batch only to its longest text, and count only real tokens.",
        run_ids(runs),
    )


def _declares_padding(record: RunRecord) -> bool:
    """Return whether the settings declare padding, by the names that other tools use."""
    train = record.train
    return train.get("padding") == "max_length" or train.get("pad_to_max_length") is True


def _tokens_per_text(record: RunRecord) -> float | None:
    """Return tokens per text from the throughput, or from tokens per second and training time."""
    cost, epochs = record.cost, record.train.get("epochs")
    if not cost.tokens_per_second:
        return None
    if cost.samples_per_second:
        return cost.tokens_per_second / cost.samples_per_second
    if cost.train_seconds and epochs and record.data.train_rows:
        return cost.tokens_per_second * cost.train_seconds / float(epochs * record.data.train_rows)
    return None


@check(
    "different-machines",
    "The runs are from different machines",
    "Differences in time and memory may come from the machines rather than from the methods.",
)
def different_machines(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find encoder runs on different machines or with different software versions.

    Classical methods are ignored, because they use the CPU even if the others use a GPU.
    """
    runs = [r for r in evidence.finished if r.method.family != "classical" and r.environment]
    seen = {key: _values(runs, key) for key in (*MACHINE, *SOFTWARE)}
    differing = {key: values for key, values in seen.items() if len(values) > 1}
    if not differing:
        return None
    messages = [
        f"{key.removesuffix('_bytes').replace('_', ' ')}"
        f" {' or '.join(fmt.shorten(value, 40) for value in values)}"
        for key, values in differing.items()
    ]

    def machine(record: RunRecord) -> tuple[str, ...]:
        return tuple(str(record.environment.get(key)) for key in differing)

    ((common, _),) = Counter(map(machine, runs)).most_common(1)
    hint = "Rerun all methods on one machine (--fresh), or compare only the quality."
    if {"device", "gpu_memory_bytes"} & differing.keys():
        hint += " Set CUDA_VISIBLE_DEVICES to restrict the study to GPUs of one type."
    return kind.found(
        f"The records differ in {joined(messages, 3)}.",
        hint,
        run_ids([record for record in runs if machine(record) != common]),
        severity="error" if differing.keys() & set(MACHINE) else "warning",
    )


@check(
    "shared-device",
    "Runs shared a device",
    "Runs on the same GPU or cores slow each other down, by an amount that depends on the other"
    " runs. Their times are not those of the methods alone.",
)
def shared_device(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs that shared a GPU, or that had more threads in total than the machine has cores."""
    shared = [record for record in evidence.trained if _shares_device(record.environment)]
    if not shared:
        return None
    most = max(record.environment["concurrent_runs"] for record in shared)
    on_gpu = any(_on_gpu(record.environment) for record in shared)
    what = (
        "shared one GPU" if on_gpu else "used more threads in total than the machine has CPU cores"
    )
    return kind.found(
        f"Up to {most} simultaneous runs {what} ({joined(names_of(shared))}).",
        "Rerun these methods (--fresh) with --workers auto"
        f"{', which gives each run its own GPU' if on_gpu else ''}, or compare only the quality.",
        run_ids(shared),
    )


def _shares_device(environment: Mapping[str, Any]) -> bool:
    runs = environment.get("concurrent_runs")
    if not isinstance(runs, int) or runs < 2:
        return False
    cores, threads = environment.get("cores"), environment.get("threads")
    if _on_gpu(environment):
        return True
    return isinstance(cores, int) and isinstance(threads, int) and runs * threads > cores


def _on_gpu(environment: Mapping[str, Any]) -> bool:
    return environment.get("device") != "cpu"


def _values(runs: Sequence[RunRecord], key: str) -> list[str]:
    """Return the distinct values of `key` in the environments, without missing ones."""
    values = (record.environment.get(key) for record in runs)
    show = fmt.size if key.endswith("_bytes") else str
    return list(dict.fromkeys(show(value) for value in values if value is not None))
