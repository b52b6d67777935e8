"""Out of memory on a CUDA device in every phase of a run, and measurement of memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stand_in import CudaStandIn

from tuneoff.engine.measure.memory import PeakMemory
from tuneoff.engine.model.activation_cache import cache_activations, frozen_layers
from tuneoff.engine.model.out_of_memory import PassSize, is_out_of_memory, retried
from tuneoff.engine.training.predict import answer_one, predict

Card = Callable[..., CudaStandIn]
RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]
LoadTiny = Callable[..., Any]

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cusparse error: CUSPARSE_STATUS_ALLOC_FAILED", True),
        ("CUDA error: out of memory", True),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED", False),
        ("CUDA error: an illegal memory access was encountered", False),
        ("Expected all tensors to be on the same device", False),
    ],
)
def test_out_of_memory_errors_are_recognised(text: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) == expected
    assert not is_out_of_memory(ValueError(text))


def test_other_errors_are_not_retried() -> None:
    calls: list[int] = []

    def compute() -> None:
        calls.append(1)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        retried(compute, lambda: True)
    assert calls == [1]


@pytest.mark.parametrize("room", [1, 7, 20, 64, 1000])
def test_batches_are_halved_until_they_fit(room: int) -> None:
    lengths = np.array([3, 9, 1, 14, 7, 7, 2, 20])
    size, computed = PassSize(64), []

    def compute(rows: np.ndarray) -> np.ndarray:
        if len(rows) > 1 and lengths[rows].sum() > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows

    for rows in size.over(lengths, np.arange(8), compute):
        computed += rows.tolist()
    assert sorted(computed) == list(range(8))
    assert (size.tokens < size.planned) == (room < lengths.sum())


def test_single_row_that_does_not_fit_is_an_error() -> None:
    def compute(rows: np.ndarray) -> None:
        if 30 in rows:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(PassSize(64).over(np.full(40, 5), np.arange(40), compute))


def test_peak_is_relative_to_level_before_the_model(card: Card) -> None:
    card()
    other = torch.zeros(1000, device="cuda")  # for example of another run in this process
    found = PeakMemory(CUDA)
    assert found.peak() == 0
    weights = torch.zeros(50, device="cuda")
    del (activations := [torch.zeros(100, device="cuda")])[:]
    gc.collect()
    assert found.peak() == 600
    found.reset()
    assert found.peak() == weights.nbytes
    assert torch.cuda.max_memory_allocated() == other.nbytes + weights.nbytes
    assert activations == []


@pytest.mark.parametrize("name", ["full", "head"])
@pytest.mark.parametrize("capability", [(8, 0), (7, 5)])
def test_evaluation_phases_use_smaller_batches(
    card: Card,
    load_tiny: LoadTiny,
    toy_task: ToyTask,
    name: str,
    capability: tuple[int, int],
) -> None:
    """Prediction, states of frozen layers and latency, with memory for one long text."""
    found = card(capability)
    task = toy_task("bert", rows=60)
    split = task.splits["train"]
    dtype = torch.float16 if capability < (8, 0) else torch.bfloat16
    prepared = load_tiny(name, dtype=dtype, device=CUDA)
    level = found.allocated
    torch.cuda.reset_peak_memory_stats()
    expected = predict(prepared.classifier, split, CUDA)
    needed = found.peak - level
    found.limit = level + needed // 4
    size = PassSize(65_536)
    answers = predict(prepared.classifier, split, CUDA, size=size)
    assert size.tokens < split.tokens.lengths.sum()
    assert np.abs(answers - expected).max() < 0.02
    fits = size.tokens
    predict(prepared.classifier, split, CUDA, size=size)
    assert size.tokens == fits  # the size is not searched again
    longest = int(split.tokens.lengths.argmax())
    alone = answer_one(prepared.classifier, split, longest, CUDA)
    assert np.abs(alone - expected[longest]).max() < 0.02
    if layers := frozen_layers(prepared):
        size = PassSize(65_536)
        stored, _ = cache_activations(prepared, task, "this model", CUDA, layers, size)
        assert size.tokens < split.tokens.lengths.sum()
        given = predict(prepared.classifier, stored.splits["train"], CUDA, size=size)
        assert np.abs(given - expected).max() < 0.02


def out_of_memory(made: Any) -> list[str]:
    return [text for text in made.record.warnings if "memory ran out" in text]


@pytest.mark.parametrize("name", ["lora", "head"])
def test_run_finishes_if_evaluation_needs_smaller_batches(
    card: Card, run_toy: RunToy, toy_task: ToyTask, name: str
) -> None:
    found = card()
    task = toy_task("bert", rows=150, data={"test": 0.6})
    options = {"task": task, "device": "cuda", "precision": "bf16", "batch_size": 2, "epochs": 1}
    plenty = run_toy(name, **options)
    parts = plenty.record.cost.memory
    assert out_of_memory(plenty) == []
    assert parts["evaluate_peak"] > parts["train_peak"]
    gc.collect()
    found.limit = found.allocated + (parts["train_peak"] + parts["evaluate_peak"]) // 2
    made = run_toy(name, seed=1, **options)
    assert made.record.status == "finished", made.record.error
    (warning,) = out_of_memory(made)
    assert "evaluation used forward passes of" in warning
    assert made.record.cost.memory["evaluate_peak"] <= found.limit


def test_run_that_does_not_fit_is_recorded(card: Card, run_toy: RunToy) -> None:
    card(memory=100_000)
    record = run_toy("full", device="cuda", precision="bf16", epochs=1).record
    assert record.status == "out_of_memory"
    assert "CUDA out of memory" in record.error
