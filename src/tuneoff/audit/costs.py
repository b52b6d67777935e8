"""Whether the costs can be compared: budgets, machines, padding, counts, and runs worth a cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.audit.evidence import Evidence, joined, names_of, run_ids
from tuneoff.audit.finding import (
    CHANCE_LEVEL_IN_COST,
    DIFFERENT_MACHINES,
    HEAD_COUNTED_TWICE,
    PADDED_THROUGHPUT,
    SHARED_DEVICE,
    UNEQUAL_BUDGET,
    Finding,
)
from tuneoff.results.record import Parameters, RunRecord
from tuneoff.results.scores import at_chance

BUDGET = ("epochs", "batch_size", "max_length", "precision", "train_rows")
"""Settings, and the number of rows, on which time, memory or throughput depend directly."""

MACHINE = ("machine", "processor", "cores", "threads", "device", "gpu_memory_bytes", "preload")
"""What an environment says of the machine itself."""

SOFTWARE = ("torch", "transformers", "versions", "cuda", "driver")
"""What it says of the software that computes."""

TOKENS_APART = 1.25
"""Tokens per text over the real ones from which they hold padding. Without padding the ratio is 1
but for the order of the rows in the steady state."""

PERCENT_APART = 0.01
"""Relative difference between the trained share as stated and as the counts give it."""


def chance_level_in_cost(evidence: Evidence) -> Finding | None:
    """Runs with a cost whose predictions on the test rows are no better than chance."""
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
    told = [f"{name} (accuracy {100 * value:.1f} %)" for name, value in found.items()]
    labels = len(guessing[0].data.labels)
    return CHANCE_LEVEL_IN_COST.found(
        f"No better than guessing among {labels} labels, but in the cost comparison: {joined(told)}"
        ".",
        "Mend the training (learning rate, epochs, precision) and run again, or leave the method"
        " out of the study.",
        run_ids(guessing),
    )


def _has_cost(record: RunRecord) -> bool:
    cost = record.cost
    known = (cost.train_seconds, cost.samples_per_second, cost.peak_memory_bytes)
    return any(value is not None for value in known)


def unequal_budget(evidence: Evidence) -> Finding | None:
    """Fine-tuned methods whose epochs, batch size, length, precision or rows differ."""
    told = []
    for key in BUDGET:
        seen: dict[str, list[RunRecord]] = {}
        for record in evidence.trained:
            value = record.data.train_rows if key == "train_rows" else record.train.get(key)
            if value is not None:
                seen.setdefault(fmt.setting(value), []).append(record)
        if len(seen) > 1:
            values = [f"{value} ({joined(names_of(runs), 3)})" for value, runs in seen.items()]
            told.append(f"{key.replace('_', ' ')} {joined(values)}")
    if not told:
        return None
    return UNEQUAL_BUDGET.found(
        f"Costs are compared at {'; '.join(told)}.",
        "Give all methods the same epochs and batch size, or compare cost per epoch.",
        run_ids(evidence.trained),
    )


def head_counted_twice(evidence: Evidence) -> Finding | None:
    """Counts of parameters that do not add up, or a total that holds the head a second time.

    What a model has without anything added is what a method counts that adds nothing (`full`,
    `head`, `baseline`). Another's total is that and what it adds, `trainable_body` at the least.
    """
    counted = [
        (record, record.parameters)
        for record in evidence.finished
        if record.parameters and record.method.family != "classical"
    ]
    plain = [p.total for r, p in counted if not _adds_weights(r)]
    base = min(plain, default=None)
    miscounted: list[RunRecord] = []
    told: dict[str, str] = {}
    for record, parameters in counted:
        text = _miscount(parameters, _least_total(record, parameters, base))
        if text:
            miscounted.append(record)
            told.setdefault(record.method.name, text)
    if not miscounted:
        return None
    name, text = next(iter(told.items()))
    more = f" (and {len(told) - 1} more methods)" if len(told) > 1 else ""
    return HEAD_COUNTED_TWICE.found(
        f"{name}{more}: {text}.",
        "Count every weight once, a head that was replaced not at all; tuneoff's own counts do.",
        run_ids(miscounted),
    )


def _adds_weights(record: RunRecord) -> bool:
    """Whether the method puts weights beside those of the model."""
    return record.method.family not in ("baseline", "selective", "loss")


def _least_total(record: RunRecord, parameters: Parameters, base: int | None) -> int | None:
    """The total without a head counted twice, as far as it can be known."""
    if record.method.method in ("full", "weighted"):  # all that there is trains
        return parameters.trainable
    if base is None:
        return None
    return base + (parameters.trainable_body if _adds_weights(record) else 0)


def _miscount(parameters: Parameters, expected: int | None) -> str | None:
    """What is wrong with the counts, in words; `expected` is the least that the total can be."""
    p = parameters
    if p.trainable != p.trainable_body + p.trainable_head:
        return (
            f"{p.trainable:,} trainable parameters are stated, body and head have"
            f" {p.trainable_body + p.trainable_head:,}"
        )
    if p.trainable > p.total:
        return f"{p.trainable:,} of {p.total:,} parameters cannot train"
    percent = 100 * p.trainable / p.total if p.total else 0.0
    if abs(p.trainable_percent - percent) > PERCENT_APART * max(percent, p.trainable_percent):
        return (
            f"{fmt.percent(p.trainable_percent)} trainable are stated, the counts give"
            f" {fmt.percent(percent)}"
        )
    if expected is not None and p.trainable_head and p.total == expected + p.trainable_head:
        return (
            f"the total of {p.total:,} parameters is {p.trainable_head:,} too large, which is"
            " exactly the head"
        )
    return None


def padded_throughput(evidence: Evidence) -> Finding | None:
    """Runs that declare padding to the maximum length, or count more tokens than the texts have."""
    declared = [record for record in evidence.trained if _declares_padding(record)]
    if declared:
        return _padded(
            f"{joined(names_of(declared))} padded every text to the maximum length, as"
            f" {'its record says' if len(declared) == 1 else 'their records say'}.",
            declared,
        )
    task = evidence.task
    if task is None or "train" not in task.splits:
        return None
    train = task.splits["train"]
    real = train.lengths.mean * (1 - train.cut_tokens_share)  # tokens per text, after cutting
    found = [
        (record, tokens)
        for record in evidence.trained
        if (tokens := _tokens_per_text(record)) is not None and tokens > TOKENS_APART * real
    ]
    if not found:
        return None
    runs, most = [record for record, _ in found], max(tokens for _, tokens in found)
    return _padded(
        f"The records of {joined(names_of(runs))} count {most:,.0f} tokens per text; the training"
        f" texts have {real:,.0f} (cut at {task.max_length:,}).",
        runs,
    )


def _padded(told: str, runs: Sequence[RunRecord]) -> Finding:
    return PADDED_THROUGHPUT.found(
        told,
        "Run the texts without padding, or in batches padded to their longest text, and count real"
        " tokens alone.",
        run_ids(runs),
    )


def _declares_padding(record: RunRecord) -> bool:
    """By the names under which other tools' settings have it."""
    train = record.train
    return train.get("padding") == "max_length" or train.get("pad_to_max_length") is True


def _tokens_per_text(record: RunRecord) -> float | None:
    """As throughput has it, or else as tokens per second times seconds over the rows seen."""
    cost, epochs = record.cost, record.train.get("epochs")
    if not cost.tokens_per_second:
        return None
    if cost.samples_per_second:
        return cost.tokens_per_second / cost.samples_per_second
    if cost.train_seconds and epochs and record.data.train_rows:
        return cost.tokens_per_second * cost.train_seconds / float(epochs * record.data.train_rows)
    return None


def different_machines(evidence: Evidence) -> Finding | None:
    """Runs with an encoder whose records name different machines, or versions of what computes.

    Without an encoder a run uses the processor even where the others have a GPU.
    """
    runs = [r for r in evidence.finished if r.method.family != "classical" and r.environment]
    seen = {key: _values(runs, key) for key in (*MACHINE, *SOFTWARE)}
    differing = {key: values for key, values in seen.items() if len(values) > 1}
    if not differing:
        return None
    told = [
        f"{key.removesuffix('_bytes').replace('_', ' ')}"
        f" {' or '.join(fmt.shorten(value, 40) for value in values)}"
        for key, values in differing.items()
    ]

    def machine(record: RunRecord) -> tuple[str, ...]:
        return tuple(str(record.environment.get(key)) for key in differing)

    ((common, _),) = Counter(map(machine, runs)).most_common(1)
    hint = "Run all methods anew on one machine (--fresh), or compare quality alone."
    if {"device", "gpu_memory_bytes"} & differing.keys():
        hint += " CUDA_VISIBLE_DEVICES limits a study to GPUs of one kind."
    return DIFFERENT_MACHINES.found(
        f"The records differ in {joined(told, 3)}.",
        hint,
        run_ids([record for record in runs if machine(record) != common]),
        severity="error" if differing.keys() & set(MACHINE) else "warning",
    )


def shared_device(evidence: Evidence) -> Finding | None:
    """Runs that had a GPU together, or whose threads together were more than the cores."""
    shared = [record for record in evidence.trained if _shares_device(record.environment)]
    if not shared:
        return None
    most = max(record.environment["concurrent_runs"] for record in shared)
    on_gpu = any(_on_gpu(record.environment) for record in shared)
    what = "one GPU" if on_gpu else "more threads than the machine has cores"
    return SHARED_DEVICE.found(
        f"Up to {most} runs at once had {what} ({joined(names_of(shared))}).",
        "Run these methods anew (--fresh) with --workers auto"
        f"{', which gives each run a GPU' if on_gpu else ''}, or compare quality alone.",
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
    """What the environments say under `key`, each once; a record that does not say is left out."""
    values = (record.environment.get(key) for record in runs)
    show = fmt.size if key.endswith("_bytes") else str
    return list(dict.fromkeys(show(value) for value in values if value is not None))
