from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tuneoff.comparison.summary import display_order, summarize
from tuneoff.config import StudySpec
from tuneoff.results.record import RunRecord, Status, TaskRecord

Study = Callable[..., StudySpec]
Record = Callable[..., RunRecord]


@pytest.fixture
def task(task_record: TaskRecord) -> TaskRecord:
    counts = {
        "train": {"no": 500, "yes": 300},
        "validation": {"no": 50, "yes": 40},
        "test": {"no": 60, "yes": 40},
    }
    splits = {
        name: replace(split, rows=sum(counts[name].values()), label_counts=counts[name])
        for name, split in task_record.splits.items()
    }
    return replace(task_record, labels=["no", "yes"], splits=splits)


def test_interval_over_seeds_is_students_t(study: Study, record: Record) -> None:
    records = [record("full", seed, score) for seed, score in enumerate((0.90, 0.91, 0.92))]
    stat = summarize(study("full"), None, records)["methods"][0]["quality"]["macro_f1"]
    # t(0.975, 2) = 4.302653, standard deviation 0.01: half = 4.302653 * 0.01 / sqrt(3)
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert stat["n"] == 3
    assert stat["mean"] == pytest.approx(0.91)
    assert stat["std"] == pytest.approx(0.01)
    assert stat["low"] == pytest.approx(0.91 - half, abs=1e-6)
    assert stat["high"] == pytest.approx(0.91 + half, abs=1e-6)


def test_one_seed_has_no_interval(study: Study, record: Record) -> None:
    row = summarize(study("full", seeds=1), None, [record("full", 0, 0.9)])["methods"][0]
    assert row["quality"]["accuracy"] == {
        "mean": 0.9, "std": None, "low": None, "high": None, "n": 1
    }  # fmt: skip
    assert row["cost"]["train_seconds"]["mean"] == pytest.approx(102.3)
    assert row["cost"]["flops_utilization"]["mean"] is None
    assert row["validation"]["accuracy"]["mean"] == 0.9


def test_failed_method_has_a_row(study: Study, record: Record) -> None:
    records = [
        record("full", 0, 0.8),
        record("lora", 0, 0.9),
        record("lora", 1, status=Status.DIVERGED, error="loss is NaN"),
        record("ia3", 0, status=Status.OUT_OF_MEMORY, error="killed"),
    ]
    summary = summarize(study("ia3", "full", "lora", "head"), None, records)
    rows = {row["name"]: row for row in summary["methods"]}
    assert list(rows) == ["ia3", "full", "lora", "head"]
    assert rows["ia3"]["status"] == "out_of_memory"
    assert rows["ia3"]["failed"] == [
        {"run_id": "ia3-s0-00000000", "status": "out_of_memory", "error": "killed"}
    ]
    assert rows["ia3"]["quality"]["accuracy"]["mean"] is None
    assert rows["lora"]["status"] == "finished"
    assert rows["lora"]["quality"]["accuracy"]["n"] == 1
    assert rows["lora"]["seeds"] == [0, 1]
    assert rows["head"]["status"] is None
    assert [row["name"] for row in display_order(summary)] == ["lora", "full", "ia3", "head"]


def test_order_follows_the_metrics_direction(study: Study, record: Record) -> None:
    records = [record("full", 0, 0.3), record("lora", 0, 0.2)]
    summary = summarize(study("full", "lora", metric="log_loss"), None, records)
    assert [row["name"] for row in display_order(summary)] == ["lora", "full"]


def test_majority_baseline_predicts_the_most_frequent_training_label(
    study: Study, task: TaskRecord
) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    summary = summarize(study("full"), task, [])
    truth, answers = ["no"] * 60 + ["yes"] * 40, ["no"] * 100
    assert summary["reference"]["majority"] == {
        "label": "no",
        "accuracy": accuracy_score(truth, answers),
        "macro_f1": pytest.approx(f1_score(truth, answers, average="macro", zero_division=0)),
    }
    assert summary["rows"] == {"train": 800, "validation": 90, "test": 100}
    # labels without test rows are not part of the mean
    rare = replace(task, labels=["no", "rare", "yes"])
    assert summarize(study("full"), rare, [])["reference"] == summary["reference"]


@pytest.mark.parametrize(("longest", "near"), [(8, False), (40, True)])
def test_length_limit_is_shown_if_texts_reach_it(
    task: TaskRecord, longest: int, near: bool
) -> None:
    from tuneoff.report.figures.task import length_histogram

    splits = {
        name: replace(found, length_histogram=[[0, 10], [longest, 90]])
        for name, found in task.splits.items()
    }
    figure = length_histogram(replace(task, splits=splits))
    assert figure is not None
    assert bool(figure.plots[0].layout["shapes"]) == near
    assert ("dashed line" in figure.caption) == near


def test_summary_is_json_with_each_machine_once(study: Study, record: Record) -> None:
    records = [record("full", seed, 0.9) for seed in range(3)]
    summary = summarize(study("full"), None, records)
    assert summary["environment"] == [{"python": "3.11", "cores": 2}]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["schema"] == 2
    assert {"pairwise", "audit", "recommendation"} <= summary.keys()


def test_study_without_records_has_rows(study: Study) -> None:
    summary = summarize(study("full", "lora"), None, [])
    assert [row["status"] for row in summary["methods"]] == [None, None]
    assert summary["rows"]["test"] is None
