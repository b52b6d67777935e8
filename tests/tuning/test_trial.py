"""Trials in the engine: no test rows, no saved files, and pruning."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.config import RunSpec, StudySpec, Trial, parse_study
from tuneoff.display.progress import Quiet
from tuneoff.engine.data.subsample import with_rows
from tuneoff.engine.execute import run
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import RunFolder, StudyFolder
from tuneoff.scheduling import LocalLauncher, Prepared
from tuneoff.scheduling.plan import complete
from tuneoff.tuning import tune_study


def without_test_rows(task: Path) -> None:
    """Delete the test split of a prepared task."""
    shutil.rmtree(task / "test")
    rows = pd.read_parquet(task / "rows.parquet")
    rows[rows["split"] != "test"].to_parquet(task / "rows.parquet", index=False)


def as_trial(toy: Any, tmp_path: Path, **settings: Any) -> tuple[RunRecord, RunFolder]:
    """Repeat the run `toy` as a trial."""
    return run_again(replace(toy.folder.spec(), trial=Trial(number=1, **settings)), toy, tmp_path)


def run_again(spec: RunSpec, toy: Any, tmp_path: Path) -> tuple[RunRecord, RunFolder]:
    folder = RunFolder(tmp_path / "trials" / spec.run_id)
    folder.write_spec(spec)
    task = toy.task.splits["train"].path.parent
    return run(spec, folder, task_path=task, model_path=toy.model, emit=lambda _: None), folder


@pytest.mark.parametrize("method", ["full", "head", "tfidf"])
def test_trial_has_the_score_of_a_run_without_test_rows(
    run_toy: Any, tmp_path: Path, method: str
) -> None:
    toy = run_toy(method, frozen_prefix="recomputed")
    without_test_rows(toy.task.splits["train"].path.parent)
    with pytest.raises(FileNotFoundError):  # a run that is not a trial needs them
        run_again(toy.folder.spec(), toy, tmp_path)
    record, folder = as_trial(toy, tmp_path)
    assert record.status is Status.FINISHED, record.error
    assert record.trial
    assert record.quality.validation == toy.record.quality.validation
    assert record.quality.test is None
    assert record.data.test_rows == 0
    assert record.cost.evaluate_seconds is None
    assert record.cost.memory["evaluate_peak"] >= 0
    assert record.cost.storage_bytes is None
    assert {p.name for p in folder.path.iterdir()} == {"spec.json", "record.json", "history.jsonl"}
    assert folder.spec().trial == Trial(number=1)
    assert folder.record() == record


def test_trial_is_pruned(run_toy: Any, tmp_path: Path) -> None:
    toy = run_toy("full", epochs=3)
    reached = [row["macro_f1"] for row in toy.folder.history() if row["kind"] == "validation"]
    record, folder = as_trial(toy, tmp_path, floors=(reached[0], 1.1))
    assert record.status is Status.PRUNED
    assert record.error is not None
    assert "ended after epoch 2 of 3" in record.error
    scores = [row["macro_f1"] for row in folder.history() if row["kind"] == "validation"]
    assert scores == reached[:2]
    assert not folder.checkpoint.exists()
    best = max(reached[:2])
    record, _ = as_trial(toy, tmp_path, floors=(reached[0], best))  # an equal score is sufficient
    assert record.status is Status.FINISHED


def test_trial_on_a_subsample(run_toy: Any, tmp_path: Path) -> None:
    toy = run_toy("head")
    record, folder = as_trial(toy, tmp_path, rows=12)
    assert record.status is Status.FINISHED
    assert record.data.train_rows == 12
    assert record.data.validation_rows == toy.record.data.validation_rows
    steps = [row["step"] for row in folder.history() if row["kind"] == "validation"]
    assert steps == [1, 2]  # 12 rows are one step of 16
    # States of frozen layers are computed once; these are from the earlier run.
    states = list(toy.task.splits["train"].path.parent.glob("states/*.json"))
    assert len(states) == 3


def test_subsamples_have_all_labels_and_are_nested(toy_task: Any) -> None:
    task = toy_task(rows=90)
    labels = task.splits["train"].labels
    small, large = (with_rows(task, n, 3).splits["train"] for n in (9, 30))
    assert set(small.positions) <= set(large.positions)
    assert (np.bincount(labels[small.positions]) == 3).all()
    assert (np.bincount(labels[large.positions]) == 10).all()
    assert with_rows(task, 10_000, 3) is task
    assert not np.array_equal(with_rows(task, 9, 4).splits["train"].positions, small.positions)


class Closed(LocalLauncher):
    """Launcher with real processes that deletes the test rows after the preparation."""

    def prepare(self, study: StudySpec, folder: Path, watch: Any) -> Prepared:
        prepared = super().prepare(study, folder, watch)
        without_test_rows(prepared.task_path)
        return prepared


def test_search_does_not_read_test_rows(tiny_model: Any, toy_csv: Any, tmp_path: Path) -> None:
    content = {
        "model": str(tiny_model("bert")),
        "data": {"train": str(toy_csv(60)), "validation": 0.2},
        "methods": ["tfidf", "head"],
        "train": {"epochs": 1, "precision": "fp32", "threads": 1},
        "tune": {"trials": 2},
    }
    study = complete(parse_study(content))
    with Closed() as launcher:
        tuned = tune_study(study, StudyFolder(tmp_path / "a"), launcher=launcher, watch=Quiet())
    ends = [t.status for search in tuned.searches for t in search.tried]
    assert ends == [Status.FINISHED] * 4
