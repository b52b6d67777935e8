"""Aggregation of a study's records to one row per method: the content of `summary.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.comparison.next_seeds import seeds_used
from tuneoff.config import StudySpec
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord, Scores, Status, TaskRecord
from tuneoff.results.summary import (
    Majority,
    MethodSummary,
    RowCounts,
    Statistic,
    Summary,
)

if TYPE_CHECKING:
    from tuneoff.comparison.bootstrap import RunPredictions
    from tuneoff.comparison.looks import Looks
    from tuneoff.comparison.pairwise import Comparison

SCHEMA = 2
"""Version of `summary.json`, increased if a field changes its meaning."""

COSTS = (
    "train_seconds",
    "total_seconds",
    "samples_per_second",
    "tokens_per_second",
    "latency_seconds",
    "peak_memory_bytes",
    "storage_bytes",
    "flops_utilization",
)
"""Fields of a record's `cost` that are aggregated over the seeds."""


def summarize(
    study: StudySpec,
    task: TaskRecord | None,
    records: Sequence[RunRecord],
    predictions: Mapping[str, RunPredictions] | None = None,
    folder: Path | None = None,
) -> Summary:
    """Return the content of `summary.json`: one row per method, in the order of the study.

    A number over seeds is `{"mean", "std", "low", "high", "n"}`, where `low` and `high` are the
    95 % interval of the mean: by Student's t for a cost, and with a variance that is moderated over
    the methods for a score (`comparison.seed_variance`). With one seed, `std` and the interval are
    None. A method whose runs all failed has a row with the `status` of its first failure; one
    without any run has the `status` None.

    Args:
        study: Specification of the study.
        task: The prepared task, if it is known.
        records: The study's records.
        predictions: Predictions on the test rows by run id. Without them `pairwise`,
            `recommendation` and `pareto_fronts` are None. Runs without predictions are listed under
            `pairwise`.
        folder: Folder of the study, for the command to predict.
    """
    names = [m.name for m in study.methods]
    if not names:
        names = list(dict.fromkeys(record.method.name for record in records))
    methods = {m.name: m.method for m in study.methods}
    summary: Summary = {
        "schema": SCHEMA,
        "metric": study.metric,
        "labels": _labels(task, records),
        "rows": _rows(task, records),
        "model": study.model,
        "methods": [
            _method_row(name, methods.get(name), [r for r in records if r.method.name == name])
            for name in names
        ],
        "reference": {"majority": _majority(task)},
        "seeds": None,
        "pairwise": None,
        "audit": None,
        "recommendation": None,
        "command_to_use": None,
        "pareto_fronts": None,
        "errors": None,
        "tuning": None,
        "environment": _distinct(record.environment for record in records if record.environment),
    }
    _moderate_by_scores([row["quality"] for row in summary["methods"]])
    _moderate_by_scores([row["validation"] for row in summary["methods"]])
    if predictions is not None:
        _add_verdict(summary, study, records, predictions, folder)
    if study.more_seeds:
        summary["seeds"] = seeds_used(study, summary["methods"], summary["recommendation"])
    return summary


def _add_verdict(
    summary: Summary,
    study: StudySpec,
    records: Sequence[RunRecord],
    predictions: Mapping[str, RunPredictions],
    folder: Path | None,
) -> None:
    """Add the pairwise comparison, the recommendation and the Pareto fronts."""
    from tuneoff.comparison.candidates import scores_of
    from tuneoff.comparison.pairwise import compare_methods
    from tuneoff.comparison.pareto import pareto_fronts
    from tuneoff.comparison.recommendation import command_for, recommend
    from tuneoff.results.scores import at_chance

    done = [r for r in records if r.status is Status.FINISHED]
    measured = [row for row in summary["methods"] if row["quality"]["accuracy"]["n"]]
    if len(measured) == 1:
        metric = QUALITY_METRICS[study.metric]
        summary["command_to_use"] = command_for(measured[0]["name"], done, metric, folder)
    if len(measured) < 2:
        return
    data = {
        row["name"]: " ".join(
            sorted({r.data.fingerprint for r in done if r.method.name == row["name"]})
        )
        for row in measured
    }
    compared = compare_methods(
        {
            row["name"]: [
                predictions[r.run_id]
                for r in done
                if r.method.name == row["name"] and r.run_id in predictions
            ]
            for row in measured
        },
        study.metric,
        labels=len(summary["labels"]),
        margin=study.margin,
        # a linear model has a single optimum, which every seed finds
        deterministic=[row["name"] for row in measured if row["family"] == "classical"],
        guessing=[row["name"] for row in measured if at_chance(scores_of(done, row["name"]))],
        data=data,
        looks=_looks(study),
    )
    _moderate_by_rows(measured, compared)
    without = [r.run_id for r in done if r.run_id not in predictions]
    summary["pairwise"] = {**compared.plain, "without_predictions": without}
    summary["recommendation"] = recommend(
        summary["methods"],
        compared,
        done,
        limits=study.limits,
        min_recall=study.min_recall,
        folder=folder,
    )
    summary["pareto_fronts"] = pareto_fronts(summary["methods"], compared.plain, done)


def _looks(study: StudySpec) -> Looks | None:
    from tuneoff.comparison.looks import Looks

    if not study.more_seeds:
        return None
    return Looks(len(study.seeds), len(study.seeds) + len(study.more_seeds))


def display_order(summary: Summary) -> list[MethodSummary]:
    """Return the summary's rows, best first by the study's metric and failed methods last."""
    metric = QUALITY_METRICS.get(summary["metric"])
    sign = -1 if metric is None or metric.higher_is_better else 1

    def key(row: MethodSummary) -> tuple[bool, float]:
        value = mean_of(row, "quality", summary["metric"])
        return (value is None, 0.0 if value is None else sign * value)

    return sorted(summary["methods"], key=key)


def mean_of(
    row: MethodSummary, part: Literal["quality", "validation", "cost"], key: str
) -> float | None:
    """Return the mean over seeds of a score or cost; None if it is unknown."""
    stat = row[part].get(key)
    return None if stat is None else stat["mean"]


def statistic(values: Iterable[float | None]) -> Statistic:
    """Return mean, standard deviation and 95 % interval of the mean (Student's t).

    Missing and non-finite values are ignored.
    """
    known = [float(v) for v in values if v is not None and math.isfinite(v)]
    n = len(known)
    mean = fmean(known) if n else None
    result: Statistic = {"mean": mean, "std": None, "low": None, "high": None, "n": n}
    if mean is not None and n > 1:
        from scipy.stats import t

        deviation = stdev(known)
        half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
        result |= {"std": deviation, "low": mean - half, "high": mean + half}
    return result


def _moderate_by_scores(scores: Sequence[dict[str, Statistic]]) -> None:
    """Compute the intervals of mean scores from the variances of all methods together."""
    import numpy as np

    from tuneoff.comparison.seed_variance import SeedVariance

    for key in QUALITY_METRICS:
        stats = [of_method[key] for of_method in scores if of_method[key]["n"] > 1]
        if len(stats) > 1:
            variances = np.array([stat["std"] ** 2 for stat in stats if stat["std"] is not None])
            seeds = np.array([stat["n"] for stat in stats])
            halves = SeedVariance(variances, seeds).half_widths()
            for stat, half in zip(stats, halves, strict=True):
                _set_interval(stat, float(half))


def _set_interval(stat: Statistic, half_width: float) -> None:
    """Replace the interval of a mean."""
    if stat["mean"] is not None:
        stat |= {"low": stat["mean"] - half_width, "high": stat["mean"] + half_width}


def _moderate_by_rows(rows: Sequence[MethodSummary], compared: Comparison) -> None:
    """Compute the intervals of mean scores from the predictions of the single rows as well."""
    for row in rows:
        for key, stat in row["quality"].items():
            half = compared.half_width(row["name"], key)
            if half is not None and stat["n"] > 1:
                _set_interval(stat, half)


def _method_row(name: str, method: str | None, records: list[RunRecord]) -> MethodSummary:
    records = sorted(records, key=lambda record: record.seed)
    done = [r for r in records if r.status is Status.FINISHED]
    failed = [r for r in records if r.status is not Status.FINISHED]
    first = next(iter(done or failed), None)
    parameters: Any = next((asdict(r.parameters) for r in done if r.parameters), None)
    return {
        "name": name,
        "method": first.method.method if first else method,
        "family": first.method.family if first else None,
        "status": str(first.status) if first else None,
        "seeds": [r.seed for r in records],
        "runs": [r.run_id for r in records],
        "failed": [{"run_id": r.run_id, "status": str(r.status), "error": r.error} for r in failed],
        "quality": _quality([r.quality.test for r in done]),
        "validation": _quality([r.quality.validation for r in done]),
        "parameters": parameters,
        "cost": {key: statistic(getattr(r.cost, key) for r in done) for key in COSTS},
    }


def _quality(scores: Sequence[Scores | None]) -> dict[str, Statistic]:
    return {key: statistic(getattr(s, key) for s in scores if s) for key in QUALITY_METRICS}


def _labels(task: TaskRecord | None, records: Sequence[RunRecord]) -> list[str]:
    if task:
        return list(task.labels)
    return list(records[0].data.labels) if records else []


def _rows(task: TaskRecord | None, records: Sequence[RunRecord]) -> RowCounts:
    if task:
        rows = {name: split.rows for name, split in task.splits.items()}
        return {
            "train": rows.get("train"),
            "validation": rows.get("validation"),
            "test": rows.get("test"),
        }
    if not records:
        return {"train": None, "validation": None, "test": None}
    data = records[0].data
    return {"train": data.train_rows, "validation": data.validation_rows, "test": data.test_rows}


def _majority(task: TaskRecord | None) -> Majority | None:
    """Return the test scores of always predicting the most frequent training label."""
    if task is None or not {"train", "test"} <= task.splits.keys():
        return None
    train, test = task.splits["train"].label_counts, task.splits["test"].label_counts
    rows = sum(test.values())
    if not train or not rows:
        return None
    label = max(train, key=lambda name: train[name])
    accuracy = test.get(label, 0) / rows
    # this label has the accuracy as precision and a recall of 1; all other labels have an F1 of 0
    there = sum(count > 0 for count in test.values())
    return {
        "label": label,
        "accuracy": accuracy,
        "macro_f1": 2 * accuracy / (1 + accuracy) / there,
    }


def _distinct(environments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found = {json.dumps(e, sort_keys=True, default=str): e for e in environments}
    return list(found.values())
