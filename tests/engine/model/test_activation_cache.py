"""States of frozen layers are stored once, and do not change the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tuneoff.engine.data.hidden_states import StateStore, StateWriter
from tuneoff.engine.model import activation_cache as prefix
from tuneoff.engine.model.activation_cache import cache_activations, frozen_layers
from tuneoff.engine.model.load import PreparedModel
from tuneoff.engine.training.predict import predict

RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]
LoadTiny = Callable[..., PreparedModel]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "config", "layers"),
    [
        ("head", {}, 3),
        ("baseline", {}, 0),  # it trains nothing
        ("partial", {"k": 1}, 2),
        ("partial", {"k": 1, "embeddings": True}, 0),
        ("full", {}, 0),
        ("lora", {}, 0),
        ("lora", {"layers": "last 2"}, 1),
        ("adapter", {"layers": "last 1"}, 2),
        ("bitfit", {}, 0),
    ],
)
def test_number_of_frozen_layers(
    load_tiny: LoadTiny, name: str, config: dict[str, Any], layers: int
) -> None:
    assert frozen_layers(load_tiny(name, **config)) == layers


def test_models_without_packing_have_no_frozen_layers(load_tiny: LoadTiny) -> None:
    assert frozen_layers(load_tiny("head", "mpnet")) == 0
    assert frozen_layers(load_tiny("head", "albert")) == 1  # its only layer


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "electra", "albert"])
@pytest.mark.parametrize(("name", "config"), [("head", {}), ("partial", {"k": 1})])
def test_stored_states_give_the_same_logits(
    toy_task: ToyTask, load_tiny: LoadTiny, architecture: str, name: str, config: dict[str, Any]
) -> None:
    if architecture == "albert" and name == "partial":
        pytest.skip("it has one layer")
    task, made = toy_task(architecture, pairs=True), load_tiny(name, architecture, **config)
    plain = {n: predict(made.classifier, s, CPU) for n, s in task.splits.items()}
    stored, found = cache_activations(made, task, "this model", CPU, frozen_layers(made))
    assert found is not None
    assert found.bytes > 0
    for n, split in stored.splits.items():
        assert split.states is not None
        assert split.states.pooled == (name == "head")
        np.testing.assert_allclose(predict(made.classifier, split, CPU), plain[n], atol=2e-6)
        # A split without states is computed from its tokens.
        again = predict(made.classifier, replace(split, states=None), CPU)
        np.testing.assert_array_equal(again, plain[n])


@pytest.mark.parametrize(
    ("name", "config"), [("head", {}), ("partial", {"k": 1}), ("lora", {"layers": "last 1"})]
)
def test_run_with_stored_states_equals_run_that_computes_them(
    run_toy: RunToy, toy_task: ToyTask, name: str, config: dict[str, Any]
) -> None:
    task = toy_task("bert")
    options = {"task": task, "config": config, "epochs": 3, "adam_epsilon": 1e-3}
    stored = run_toy(name, **options)
    computed = run_toy(name, **options, frozen_prefix="recomputed")
    assert stored.record.status == computed.record.status == "finished"
    file = "adapter_model" if name == "lora" else "model"
    first, second = (
        load_file(made.folder.model / f"{file}.safetensors") for made in (stored, computed)
    )
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=1e-4, atol=2e-5, msg=key)
    for made in (stored, computed):
        assert "without dropout" in made.record.deviations["frozen_prefix"]
    assert "on disk" in stored.record.deviations["frozen_prefix"]
    assert stored.record.cost.seconds["prefix"] > 0
    assert "prefix" not in computed.record.cost.seconds

    plain = run_toy(name, **options, frozen_prefix="dropout")
    assert "frozen_prefix" not in plain.record.deviations


def test_runs_of_a_study_share_stored_states(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert")
    states = task.splits["train"].path.parent / "states"
    run_toy("partial", task=task, config={"k": 1}, epochs=1)
    written = {f.name: f.stat().st_mtime_ns for f in states.iterdir()}
    assert len(written) == 6  # three splits with a metadata file each
    run_toy("lora", task=task, config={"layers": "last 1"}, epochs=1, seed=3)
    assert {f.name: f.stat().st_mtime_ns for f in states.iterdir()} == written
    run_toy("head", task=task, epochs=1)
    run_toy("partial", task=task, config={"k": 1}, epochs=1, precision="bf16")
    assert len(list(states.iterdir())) == 18


def test_states_are_computed_if_the_disk_is_too_small(
    run_toy: RunToy, toy_task: ToyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "SHARE_OF_FREE_DISK", 0.0)
    made = run_toy("partial", config={"k": 1}, epochs=1)
    assert made.record.status == "finished", made.record.error
    assert "on disk" not in made.record.deviations["frozen_prefix"]
    assert not (made.task.splits["train"].path.parent / "states").exists()


def test_incomplete_store_is_ignored(tmp_path: Path) -> None:
    offsets, file = np.array([0, 2, 5]), tmp_path / "train"
    writer = StateWriter(file, offsets, torch.bfloat16, 4)
    states = torch.arange(20, dtype=torch.bfloat16).view(5, 4)
    writer.write(np.array([1, 0]), torch.cat([states[2:], states[:2]]))
    assert StateStore.open(file, offsets, torch.bfloat16, 4, False) is None
    writer.finish(1.5)
    found = StateStore.open(file, offsets, torch.bfloat16, 4, False)
    assert found is not None
    assert (found.seconds, found.bytes) == (1.5, 40)
    assert torch.equal(found.read(np.array([1])), states[2:])
    assert torch.equal(found.read(np.array([1, 0])), torch.cat([states[2:], states[:2]]))
    with file.open("r+b") as cut:
        cut.truncate(30)
    assert StateStore.open(file, offsets, torch.bfloat16, 4, False) is None
    other = StateWriter(tmp_path / "other", offsets, torch.bfloat16, 4)
    other.give_up()
    assert {p.name for p in tmp_path.iterdir()} == {"train", "train.json"}
