"""Activation checkpointing: the same weights, bit for bit, with less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tuneoff.engine.data.batches import batch
from tuneoff.engine.kernels.packed_forward import Classifier
from tuneoff.engine.model.activation_checkpointing import Recomputation

RunToy = Callable[..., Any]


def weights_of(made: Any) -> dict[str, torch.Tensor]:
    assert made.record.status == "finished", made.record.error
    found: dict[str, torch.Tensor] = {}
    for file in sorted(made.folder.model.glob("*.safetensors")):
        found |= load_file(file)
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("full", "bert"),  # dropout repeats its random draws
        ("lora", "bert"),
        ("partial", "distilbert"),
        ("adapter", "roberta"),
        ("prefix", "bert"),  # its layers have keys and values, and are unchanged
        ("full", "deberta-v2"),
        ("full", "modernbert"),
        ("lora", "llama"),
    ],
)
def test_weights_are_equal_bit_for_bit(run_toy: RunToy, name: str, architecture: str) -> None:
    plain = run_toy(name, architecture, gradient_checkpointing=False)
    found = weights_of(plain)
    again = run_toy(name, architecture, gradient_checkpointing=True, task=plain.task)
    assert again.folder.path != plain.folder.path
    assert again.record.train["gradient_checkpointing"] is True
    for key, value in weights_of(again).items():
        assert torch.equal(value, found[key]), key


@pytest.mark.parametrize("architecture", ["bert", "llama"])  # llama: a decoder, with a cache
def test_fewer_tensors_are_kept(
    load_tiny: Callable[..., Any], toy_task: Callable[..., Any], architecture: str
) -> None:
    prepared = load_tiny("full", architecture)
    layers = Recomputation(prepared.classifier, prepared.dropout)
    rows = toy_task(architecture).splits["train"]
    inputs = batch(rows, rows.positions[:32])
    prepared.classifier.train()

    def kept() -> int:
        sizes: dict[int, int] = {}

        def keep(x: torch.Tensor) -> torch.Tensor:
            sizes[x.data_ptr()] = x.nbytes
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            prepared.classifier(inputs).sum()
        weights = {p.data_ptr() for p in prepared.classifier.parameters()}
        return sum(size for at, size in sizes.items() if at not in weights)

    everything = kept()
    layers.on = True
    assert kept() < 0.5 * everything


def test_switched_on_if_a_single_example_does_not_fit(
    run_toy: RunToy, monkeypatch: pytest.MonkeyPatch
) -> None:
    switches: list[Recomputation] = []
    made, forward = Recomputation.__init__, Classifier.forward

    def seen(self: Recomputation, *inputs: Any) -> None:
        made(self, *inputs)
        switches.append(self)

    def small(self: Classifier, inputs: Any) -> Any:
        if self.training and not (switches[-1].on and len(inputs.lengths) == 1):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, inputs)

    monkeypatch.setattr(Recomputation, "__init__", seen)
    monkeypatch.setattr(Classifier, "forward", small)
    record = run_toy("lora").record
    assert record.status == "finished", record.error
    assert any("for a single example" in warning for warning in record.warnings)
    refused = run_toy("lora", gradient_checkpointing=False).record
    assert refused.status == "out_of_memory"
