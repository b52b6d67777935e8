"""Training loop: micro-batches, row weights, choice of the epoch, and history."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tuneoff.config import TrainSpec
from tuneoff.engine.kernels.sparse_embedding import seen_ids
from tuneoff.engine.measure.memory import PeakMemory
from tuneoff.engine.model.out_of_memory import PassSize
from tuneoff.engine.model.saved import load_trained
from tuneoff.engine.training.checkpoint import BestCheckpoint, Checkpoints
from tuneoff.engine.training.journal import Journal
from tuneoff.engine.training.loop import train
from tuneoff.engine.training.predict import predict

RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]


@pytest.fixture
def without_dropout(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "no-dropout")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0}))
    return folder


def weights_of(made: Any) -> dict[str, torch.Tensor]:
    assert made.record.status == "finished", made.record.error
    name = "adapter_model" if made.record.method.method == "lora" else "model"
    return load_file(made.folder.model / f"{name}.safetensors")


def assert_same_weights(a: Any, b: Any) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_micro_batches_are_equivalent_to_the_whole_step(
    run_toy: RunToy, toy_task: ToyTask, without_dropout: Path, name: str
) -> None:
    task = toy_task("bert")
    # A large epsilon, because AdamW's first steps are signs, which rounding may change near 0.
    options = {"task": task, "model": without_dropout, "adam_epsilon": 1e-3, "epochs": 2}
    whole = run_toy(name, **options)
    pieces = run_toy(name, **options, micro_batch_tokens=40)
    assert task.splits["train"].tokens.lengths.sum() > 10 * 40
    assert whole.folder.path != pieces.folder.path
    assert_same_weights(whole, pieces)
    losses = [[r["loss"] for r in made.folder.history()] for made in (whole, pieces)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def write(path: Path, rows: list[tuple[str, str, float]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "w"])
        writer.writerows(rows)
    return path


@pytest.fixture
def weighted_task(toy_task: ToyTask, toy_csv: Callable[..., Path], tmp_path: Path) -> ToyTask:
    """`weighted_task(…)`: a task with these training rows and weights, and fixed other rows."""
    held_out = {}
    for seed, name in ((1, "test"), (2, "validation")):
        with toy_csv(12, seed=seed).open() as file:
            rows = [(r["text"], r["label"], 1.0) for r in csv.DictReader(file)]
        held_out[name] = str(write(tmp_path / f"{name}.csv", rows))

    def make(rows: list[tuple[str, str, float]], name: str) -> Any:
        file = write(tmp_path / f"{name}.csv", rows)
        return toy_task("bert", file=file, data={"weight": "w", **held_out})

    return make


ROWS = [
    ("the cat was here", "animals", 1.0),
    ("dog on the red horse", "animals", 1.0),
    ("a slow soup", "food", 1.0),
    ("bread and milk in it", "food", 1.0),
    ("rain", "weather", 1.0),
    ("storm and snow here", "weather", 1.0),
]


def in_one_step(run_toy: RunToy, task: Any, model: Path, **options: Any) -> Any:
    return run_toy(
        "full", task=task, model=model, batch_size=100, adam_epsilon=1e-3, epochs=3, **options
    )


def test_row_of_weight_two_counts_twice(
    run_toy: RunToy, weighted_task: ToyTask, without_dropout: Path
) -> None:
    heavy = [(*ROWS[0][:2], 2.0), *ROWS[1:]]
    twice = [ROWS[0], *ROWS]
    once = weighted_task(ROWS, "once")
    a, b, c = (
        in_one_step(run_toy, task, without_dropout)
        for task in (weighted_task(heavy, "heavy"), weighted_task(twice, "twice"), once)
    )
    assert_same_weights(a, b)
    with pytest.raises(AssertionError):
        assert_same_weights(a, c)


def test_rows_of_weight_zero_are_ignored(
    run_toy: RunToy, weighted_task: ToyTask, without_dropout: Path
) -> None:
    rubbish = [("snow rain storm wind", "food", 0.0), ("here", "animals", 0.0)]
    a = in_one_step(run_toy, weighted_task([*rubbish, *ROWS], "rubbish"), without_dropout)
    b = in_one_step(run_toy, weighted_task(ROWS, "clean"), without_dropout)
    assert_same_weights(a, b)


def test_step_with_only_rows_of_weight_zero_changes_nothing(
    run_toy: RunToy, weighted_task: ToyTask, without_dropout: Path
) -> None:
    rubbish = [(f"the {word}", "food", 0.0) for word in ("rain", "snow", "wind")]
    task = weighted_task([*rubbish, *ROWS], "alone")
    made = run_toy("full", task=task, model=without_dropout, batch_size=1, epochs=1)
    assert made.record.status == "finished", made.record.error
    losses = [r["loss"] for r in made.folder.history() if r["kind"] == "train"]
    assert losses.count(0.0) == 3
    assert all(torch.isfinite(value).all() for value in weights_of(made).values())


def test_class_weights_equal_row_weights(
    run_toy: RunToy, weighted_task: ToyTask, without_dropout: Path
) -> None:
    """A class weight of 3 is a weight of 3 for each row of the class."""
    by_class = {label: 3.0 if label == ROWS[0][1] else 1.0 for _, label, _ in ROWS}
    by_row = [(text, label, by_class[label]) for text, label, _ in ROWS]
    plain = [(text, label, 1.0) for text, label, _ in ROWS]
    a = in_one_step(run_toy, weighted_task(by_row, "by-row"), without_dropout)
    task = weighted_task(plain, "by-class")
    b = in_one_step(run_toy, task, without_dropout, class_weights=by_class)
    assert_same_weights(a, b)
    c = in_one_step(run_toy, task, without_dropout)
    with pytest.raises(AssertionError):
        assert_same_weights(a, c)


WRECKING: dict[str, Any] = {"warmup_ratio": 0.99, "learning_rate": 0.5, "metric": "log_loss"}
"""The rate becomes far too high: the first epoch learns something, the later ones destroy it."""


def test_best_epoch_is_restored(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert")
    made = run_toy("full", task=task, epochs=5, batch_size=4, **WRECKING)
    assert made.record.status == "finished", made.record.error
    scores = [r["loss"] for r in made.folder.history() if r["kind"] == "validation"]
    assert len(scores) == 5
    assert made.record.best_epoch == 1 + int(np.argmin(scores)) < 5
    assert max(scores) > 1.5 * min(scores)
    # The weights of this epoch are evaluated, written and saved.
    assert made.record.quality.validation.log_loss == pytest.approx(min(scores), rel=1e-6)
    table = made.folder.predictions().query("split == 'validation'")
    of_true = [row[f"probability_{row['label']}"] for _, row in table.iterrows()]
    assert -np.log(np.maximum(of_true, 1.2e-7)).mean() == pytest.approx(min(scores), rel=1e-2)
    cpu = torch.device("cpu")
    saved = load_trained(made.folder.model, quantized=False, dtype=torch.float32, device=cpu)
    again = predict(saved, task.splits["validation"], cpu)
    kept = table[[f"probability_{label}" for label in task.labels]].to_numpy()
    np.testing.assert_allclose(again, kept, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_early_stopping(run_toy: RunToy, toy_task: ToyTask, precision: str) -> None:
    made = run_toy(
        "full",
        task=toy_task("bert"),
        epochs=20,
        batch_size=4,
        early_stopping_patience=2,
        precision=precision,
        **(WRECKING | {"warmup_ratio": 0.3}),
    )
    assert made.record.status == "finished", made.record.error
    rows = [r for r in made.folder.history() if r["kind"] == "validation"]
    assert len(rows) == made.record.best_epoch + 2 < 20
    best = rows[made.record.best_epoch - 1]["loss"]
    assert made.record.quality.validation.log_loss == pytest.approx(best, rel=1e-6)


def test_history(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert")
    made = run_toy("head", task=task, epochs=2, batch_size=10)
    rows = made.folder.history()
    steps = -(-len(task.splits["train"]) // 10)
    training = [r for r in rows if r["kind"] == "train"]
    assert [r["step"] for r in training] == list(range(1, 2 * steps + 1))
    assert training[-1]["epoch"] == 2.0
    assert all(r["loss"] > 0 and r["learning_rate"] > 0 and r["seconds"] > 0 for r in training)
    assert [r["seconds"] for r in training] == sorted(r["seconds"] for r in training)
    validation = [r for r in rows if r["kind"] == "validation"]
    assert [(r["step"], r["epoch"]) for r in validation] == [(steps, 1.0), (2 * steps, 2.0)]
    assert set(validation[0]) == {"kind", "step", "epoch", "loss", "accuracy", "macro_f1"}
    assert rows.index(validation[0]) == steps


def test_long_run_is_logged_a_hundred_times(run_toy: RunToy, toy_task: ToyTask) -> None:
    made = run_toy("head", task=toy_task("bert"), epochs=6, batch_size=1)
    training = [r for r in made.folder.history() if r["kind"] == "train"]
    assert made.record.data.train_rows * 6 > 200
    assert 90 <= len(training) <= 140
    assert training[-1]["step"] == made.record.data.train_rows * 6


def test_training_never_reads_the_test_split(
    load_tiny: Callable[..., Any], toy_task: ToyTask, tmp_path: Path
) -> None:
    task = toy_task("bert")
    splits = {name: task.splits[name] for name in ("train", "validation")}
    journal = Journal(tmp_path / "history.jsonl", lambda event: None)
    trained = train(
        load_tiny("full"),
        replace(task, splits=splits),
        TrainSpec(epochs=1),
        learning_rate=1e-3,
        metric="macro_f1",
        seed=0,
        device=torch.device("cpu"),
        journal=journal,
        memory=PeakMemory(torch.device("cpu")),
        evaluation=PassSize(2_048),
        best=BestCheckpoint(tmp_path / "checkpoint", "macro_f1"),
        checkpoints=Checkpoints(tmp_path / "checkpoint", "this", 60.0),
    )
    journal.close()
    assert trained.best_epoch == 1
    assert trained.meter.tokens == task.splits["train"].tokens.lengths.sum()


def test_frozen_weights_have_no_gradient_and_no_state(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert")
    full, head = (run_toy(name, task=task, epochs=1).record for name in ("full", "head"))
    for record in (full, head):
        trainable, copied = record.parameters.trainable, 0
        if record is full:  # nor have words that do not occur in training rows
            table = 64 * len(seen_ids(task.splits["train"].tokens, 28))
            trainable, copied = trainable - (28 * 64 - table), 4 * table
        assert record.cost.memory["gradients"] == 4 * trainable
        # Two moments each, and a number of steps per tensor.
        state = record.cost.memory["optimizer_state"] - copied
        assert 8 * trainable <= state < 8 * trainable + 2000
    assert head.parameters.trainable < 0.05 * full.parameters.trainable


def test_best_checkpoint_is_the_first_of_equal_scores(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, "accuracy")
    weights = {"w": torch.tensor([1.0])}
    assert best.offer(1, 0.5, weights)
    assert not best.offer(2, 0.5, {"w": torch.tensor([2.0])})
    assert not best.offer(3, 0.4, {"w": torch.tensor([3.0])})
    best.restore(current := {"w": torch.tensor([9.0])})
    assert (best.epoch, best.score, current["w"].item()) == (1, 0.5, 1.0)
    lower = BestCheckpoint(tmp_path / "loss", "log_loss")
    assert lower.offer(1, 0.5, weights)
    assert lower.offer(2, 0.4, weights)
    assert not lower.offer(3, 0.6, weights)
    assert lower.epoch == 2


def refuse_above(tokens: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Simulate a device with room for this number of tokens; return the sizes that were tried."""
    from tuneoff.engine.kernels.packed_forward import Classifier

    tried: list[int] = []
    forward = Classifier.forward

    def small(self: Any, inputs: Any) -> Any:
        if self.training:
            tried.append(inputs.tokens)
            if inputs.tokens > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, inputs)

    monkeypatch.setattr(Classifier, "forward", small)
    return tried


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_that_does_not_fit_is_halved(
    run_toy: RunToy,
    toy_task: ToyTask,
    without_dropout: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    options = {
        "task": toy_task("bert"),
        "model": without_dropout,
        "adam_epsilon": 1e-3,
        "precision": precision,
    }
    plenty = run_toy("full", **options)
    kept = shutil.copytree(plenty.folder.path, plenty.folder.path.with_name("plenty"))
    with monkeypatch.context() as patched:
        tried = refuse_above(70, patched)
        little = run_toy("full", **options)
    plenty.folder.__init__(kept)
    assert little.record.status == "finished", little.record.error
    assert max(tried) > 70
    assert sum(tokens > 70 for tokens in tried) <= 3  # the size that fits is remembered
    (warning,) = little.record.warnings
    assert "memory ran out: steps were computed in pieces of" in warning
    if precision == "fp32":
        assert_same_weights(plenty, little)


def test_single_example_that_does_not_fit_is_recorded(
    run_toy: RunToy, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_above(5, monkeypatch)
    made = run_toy("full")
    assert made.record.status == "out_of_memory"
    assert "out of memory" in made.record.error
    assert made.record.quality.test is None
