"""Execution of a specification returns a record, whatever the outcome."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tuneoff.config import RunSpec, TrainSpec
from tuneoff.engine.training import classical
from tuneoff.engine.training.learning_rate import learning_rate
from tuneoff.methods import methods
from tuneoff.methods.base import Method
from tuneoff.results.record import RunRecord
from tuneoff.results.store import RunFolder

RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]


@pytest.mark.parametrize(
    "name", [m for m in methods() if m != "qlora" or find_spec("bitsandbytes")]
)
def test_every_method_gives_a_complete_record(
    run_toy: RunToy, toy_task: ToyTask, name: str
) -> None:
    task = toy_task("bert", rows=90)
    made = run_toy(name, task=task, epochs=6, learning_rate="auto", batch_size=8)
    record = made.record
    assert record.status == "finished", record.error
    assert record.error is None
    assert made.folder.record() == record  # the record that was written and read again
    assert record.run_id == made.folder.path.name
    assert (record.method.method, record.seed, record.metric) == (name, 0, "macro_f1")
    assert record.data.labels == ["animals", "food", "weather"]
    assert record.data.train_rows == len(task.splits["train"])
    assert record.data.test_rows == len(task.splits["test"]) == 18
    assert record.environment["torch"] == torch.__version__

    # The toy's label depends on words, so every method learns it except prompt tuning: with a
    # random frozen encoder, the first, virtual token does not depend on the text.
    assert record.quality.test is not None
    assert record.quality.test.accuracy > (0.6 if name not in ("baseline", "prompt") else -1)
    matrix = np.array(record.quality.test.confusion_matrix)
    assert matrix.sum() == 18
    assert matrix.trace() / 18 == pytest.approx(record.quality.test.accuracy)

    learns = name not in ("tfidf", "baseline")
    cost = record.cost
    assert cost.evaluate_seconds is not None
    assert cost.total_seconds >= sum(cost.seconds.values()) * 0.99
    assert (cost.peak_memory_bytes is None) == (name == "baseline")
    assert (record.best_epoch is not None) == learns
    assert (cost.tokens_per_second is not None) == learns
    assert (cost.flops_utilization is not None) == (learns and name != "head")
    assert (cost.storage_bytes == 0) == (name == "baseline")
    if learns:
        parts = {"load", "train", "validate", "evaluate", "latency", "checkpoint", "save"}
        frozen = name in ("head", "partial")
        assert set(cost.seconds) == parts | ({"prefix"} if frozen else set())
        # States of frozen layers are computed before the first step, but are part of the training.
        more = cost.train_seconds - cost.seconds["train"]
        assert 0 < more < cost.seconds["prefix"] if frozen else more == 0 < cost.seconds["train"]
        assert cost.flops_utilization is None or 0 < cost.flops_utilization < 1
        assert record.train["learning_rate"] == methods()[name].learning_rate * 4
        # The weights in float32, the configuration, and the model card of an adapter.
        beside = cost.storage_bytes - 4 * record.parameters.trainable
        frozen = {"lora_fa", "pissa", "vera"}  # random matrices that are saved, too
        assert 0 <= beside < (300_000 if name in frozen else 30_000)
    if name != "tfidf":
        assert record.train["precision"] == "fp32"
        assert record.deviations.keys() >= {"attention_dropout", "dropout"}
    assert not (made.folder.path / "checkpoint").exists()
    phases = [e["phase"] for e in made.events if e["event"] == "progress"]
    assert phases[-1] in ("save", "test")


@pytest.mark.parametrize(("hidden", "factor"), [(64, 4), (384, 4), (512, 2.25), (768, 1)])
def test_default_learning_rate_depends_on_the_width(
    run_toy: RunToy, hidden: int, factor: float
) -> None:
    spec = run_toy("baseline", learning_rate="auto").folder.spec()
    lora = methods()["lora"]
    assert lora.learning_rate is not None
    assert learning_rate(spec, lora, hidden) == pytest.approx(factor * lora.learning_rate)
    assert learning_rate(spec, methods()["baseline"], hidden) is None


def test_given_learning_rate_is_used(run_toy: RunToy) -> None:
    assert run_toy("head", epochs=1, learning_rate=0.0123).record.train["learning_rate"] == 0.0123


ODD = ['a "quoted", label', "ünï/cödé\n2", "  probability_ ", "1.0"]


@pytest.mark.parametrize("name", ["head", "tfidf"])
def test_predictions(run_toy: RunToy, toy_task: ToyTask, tmp_path: Path, name: str) -> None:
    file = tmp_path / "odd.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "w"])
        writer.writerows(
            [f"the cat {'dog ' * (i % 5)} {'rain ' * (i % 7)}here {i}", ODD[i % 4], 1 + i % 3]
            for i in range(80)
        )
    task = toy_task("bert", file=file, data={"weight": "w"})
    made = run_toy(name, task=task, epochs=1)
    assert made.record.status == "finished", made.record.error
    table = made.folder.predictions()
    labels = task.labels
    assert len(labels) == 4
    probabilities = [f"probability_{label}" for label in labels]
    assert list(table) == ["split", "row", "label", "prediction", *probabilities, "weight"]
    assert set(table["split"]) == {"validation", "test"}  # no training rows
    values = table[probabilities].to_numpy()
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)
    assert (table["prediction"] == np.array(labels, object)[values.argmax(1)]).all()
    for split in ("validation", "test"):
        own = table[table["split"] == split]
        known = task.splits[split]
        assert own["row"].tolist() == known.rows.tolist()
        assert own["weight"].tolist() == known.weights.tolist()
        assert own["label"].tolist() == [labels[i] for i in known.labels]
        right = np.average(own["label"] == own["prediction"], weights=own["weight"])
        scores = getattr(made.record.quality, split)
        assert scores.accuracy == pytest.approx(right)
        of_true = own[probabilities].to_numpy()[np.arange(len(own)), known.labels]
        loss = -np.average(np.log(of_true), weights=own["weight"])
        assert scores.log_loss == pytest.approx(loss, rel=1e-5)


def test_diverged_run_is_recorded(run_toy: RunToy) -> None:
    made = run_toy("full", epochs=3, learning_rate=1e30, max_grad_norm=0.0)
    assert made.record.status == "diverged"
    assert made.record.error is not None
    assert made.folder.record() == made.record
    assert made.record.quality.test is None
    assert made.record.parameters is not None  # earlier measurements are kept


def test_run_that_diverges_after_an_epoch_leaves_no_checkpoint(run_toy: RunToy) -> None:
    made = run_toy("head", epochs=3, batch_size=1000, learning_rate=1e36, warmup_ratio=0.0)
    kinds = [r["kind"] for r in made.folder.history()]
    assert kinds[:2] == ["train", "validation"]
    assert kinds.count("validation") == 1
    assert made.record.status == "diverged"
    assert not (made.folder.path / "checkpoint").exists()


def test_memory_of_training_and_evaluation_are_separate(run_toy: RunToy, toy_task: ToyTask) -> None:
    """A validation uses many more rows at once than a step, but must not count as training."""
    task = toy_task("bert", rows=3000, data={"validation": 0.45})
    for _ in range(2):  # memory that a process uses for the first time counts for its first run
        made = run_toy("head", task=task, epochs=2, batch_size=2, learning_rate=1e-4)
    assert made.record.status == "finished", made.record.error
    memory = made.record.cost.memory
    assert made.record.cost.peak_memory_bytes == memory["train_peak"]
    assert memory["activations"] < 0.5 * (memory["evaluate_peak"] - memory["weights"])
    assert memory["reserved_peak"] is None
    parts = ("weights", "gradients", "optimizer_state", "activations")
    assert sum(memory[part] for part in parts) >= memory["train_peak"]


def test_run_that_diverges_in_the_last_step_is_recorded(run_toy: RunToy) -> None:
    """No later step detects that the weights are lost, but the validation does."""
    made = run_toy("full", epochs=1, batch_size=1000, learning_rate=3e38, warmup_ratio=0.0)
    assert made.record.status == "diverged"
    assert "not finite" in (made.record.error or "")
    assert made.folder.record() == made.record


def with_method(monkeypatch: pytest.MonkeyPatch, apply: Any) -> None:
    """Add a method to the registry, like another package."""
    added = Method(name="added", family="test", summary="", learning_rate=1e-3, apply=apply)
    monkeypatch.setitem(methods(), "added", added)  # type: ignore[arg-type]


def test_out_of_memory_is_recorded(run_toy: RunToy, monkeypatch: pytest.MonkeyPatch) -> None:
    with_method(monkeypatch, lambda *_: torch.empty(10**15))
    made = run_toy("added")
    assert made.record.status == "out_of_memory"
    assert "allocate memory" in (made.record.error or "")
    assert made.folder.record() == made.record


def test_out_of_memory_of_numpy_is_recorded(
    run_toy: RunToy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_method(monkeypatch, lambda *_: np.ones(10**15))
    assert run_toy("added").record.status == "out_of_memory"


def test_failed_run_is_recorded(
    run_toy: RunToy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("something of its own")

    with_method(monkeypatch, fail)
    made = run_toy("added")
    assert made.record.status == "failed"
    assert made.record.error == "ZeroDivisionError: something of its own"
    assert made.record.cost.total_seconds > 0
    assert "in fail" in capsys.readouterr().err  # the traceback is in the run's log


def test_invalid_settings_have_a_hint(run_toy: RunToy) -> None:
    made = run_toy("head", class_weights={"anymals": 2.0})
    assert made.record.status == "failed"
    assert "Did you mean 'animals'?" in (made.record.error or "")


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "ece", "mcc"])
def test_checkpoint_is_chosen_by_the_metric(run_toy: RunToy, metric: str) -> None:
    made = run_toy("head", epochs=3, metric=metric)
    assert made.record.status == "finished", made.record.error
    assert made.record.best_epoch in (1, 2, 3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_learn(run_toy: RunToy, toy_task: ToyTask, precision: str) -> None:
    made = run_toy("full", task=toy_task("bert", rows=90), epochs=6, precision=precision)
    assert made.record.status == "finished", made.record.error
    assert made.record.quality.test.accuracy > 0.6
    assert made.record.train["precision"] == precision
    # Master weights and both moments in float32 for the body; the head has no second copy.
    parameters, memory = made.record.parameters, made.record.cost.memory
    low, high = 12 * parameters.trainable_body, 8 * parameters.trainable_head
    # Trained token embeddings have a separate part in addition to the master weights, and those
    # that no training row contains have no moments.
    table = 4 * 28 * 64
    assert low + high - table <= memory["optimizer_state"] < low + high + table + 2000
    assert memory["weights"] < 2.4 * parameters.total


def test_attention_dropout_of_the_model(run_toy: RunToy) -> None:
    made = run_toy("full", epochs=1, attention_dropout="model")
    assert made.record.status == "finished", made.record.error
    assert "attention_dropout" not in made.record.deviations
    without = run_toy("full", epochs=1)
    assert made.record.quality.test.log_loss != without.record.quality.test.log_loss


@pytest.mark.parametrize("architecture", ["distilbert", "electra", "roberta", "mpnet"])
def test_architectures_learn(run_toy: RunToy, toy_task: ToyTask, architecture: str) -> None:
    made = run_toy("lora", architecture, task=toy_task(architecture, rows=90), epochs=8)
    assert made.record.status == "finished", made.record.error
    assert made.record.quality.test.accuracy > 0.6
    assert ("layout" in made.record.deviations) == (architecture == "mpnet")


def test_pairs(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert", rows=120, pairs=True)
    assert task.splits["train"].tokens.type_ids is not None
    for name in ("full", "tfidf"):
        made = run_toy(name, task=task, epochs=6)
        assert made.record.status == "finished", made.record.error
        assert made.record.quality.test.accuracy > 0.6


def test_saved_classical_model_gives_the_same_predictions(run_toy: RunToy) -> None:
    made = run_toy("tfidf", config={"ngrams": 1})
    fitted, labels = classical.load(made.folder.model)
    assert classical.is_saved_in(made.folder.model)
    assert labels == made.task.labels
    again = classical.predict_split(fitted, made.task.splits["test"])
    recorded = made.folder.predictions().query("split == 'test'")
    columns = [f"probability_{label}" for label in labels]
    np.testing.assert_allclose(again, recorded[columns].to_numpy(), atol=1e-7)


def test_results_depend_on_the_seed_only(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert")
    first, second = (run_toy("lora", task=task, seed=s).folder.predictions() for s in (0, 1))
    again = run_toy("lora", task=task, seed=0).folder.predictions()
    assert first.equals(again)
    assert not first.equals(second)


FRESH = """
import json, sys
from pathlib import Path
from tuneoff.engine.execute import run
from tuneoff.results.store import RunFolder
for path, task, model in json.loads(sys.argv[1]):
    folder = RunFolder(path)
    run(folder.spec(), folder, task_path=Path(task), model_path=Path(model), emit=lambda e: None)
"""


def test_same_spec_gives_same_predictions_in_new_processes(
    tiny_model: Callable[[str], Path], toy_task: ToyTask, tmp_path: Path
) -> None:
    """The predictions are equal bit for bit, also with two threads, dropout and bf16."""
    task, model = toy_task("bert", rows=40), tiny_model("bert")
    specs = [
        RunSpec(
            name=f"{method}-{precision}",
            method=method,
            config={},
            model=str(model),
            train=TrainSpec(
                epochs=1, precision=precision, device="cpu", threads=2, attention_dropout=attention
            ),
            seed=3,
            metric="macro_f1",
            data_fingerprint=task.record.fingerprint,
            model_fingerprint="f" * 64,
        )
        for method, precision, attention in (
            ("full", "fp32", "model"),
            ("lora", "bf16", 0.0),
        )
    ]
    found = []
    for attempt in ("first", "second"):
        jobs = []
        for i, spec in enumerate(specs):
            folder = RunFolder(tmp_path / attempt / str(i))
            folder.write_spec(spec)
            jobs.append([str(folder.path), str(task.splits["train"].path.parent), str(model)])
        subprocess.run([sys.executable, "-c", FRESH, json.dumps(jobs)], check=True, env=os.environ)
        folders = [RunFolder(path) for path, *_ in jobs]
        records = [folder.record() for folder in folders]
        assert all(r is not None and r.status == "finished" for r in records), records
        assert all(r is not None and r.environment["threads"] == 2 for r in records)
        # Only a new process has no freed memory that a run could reuse unnoticed.
        assert all(r is not None and r.cost.memory["train_peak"] > 1 << 20 for r in records)
        found.append([folder.predictions() for folder in folders])
    for first, second in zip(*found, strict=True):
        assert first.equals(second)
    assert not found[0][0].equals(found[0][1])


def test_json_round_trip_of_a_record(run_toy: RunToy) -> None:
    record = run_toy("head", epochs=1).record
    again = RunRecord.from_plain(json.loads(json.dumps(record.to_plain(), allow_nan=False)))
    assert again == record
