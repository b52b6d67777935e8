"""Every method and every architecture on a simulated CUDA device.

A sample of the methods runs in fp16 by default; `make grid` runs all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stand_in import CudaStandIn

from tuneoff.engine.training import stop
from tuneoff.engine.training.optimizer import Optimizer
from tuneoff.methods import methods
from tuneoff.methods.adalora import _Allocation

Card = Callable[..., CudaStandIn]
RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]

METHODS = [name for name, m in methods().items() if m.apply is not None]
CAPABILITIES = {(7, 5): "fp16", (8, 0): "bf16"}
IN_FP16 = ("full", "lora", "adalora", "partial", "qlora")
"""Methods that are tested in fp16 by default: all weights, adapters, a hook that depends on the
steps, frozen layers, 4-bit weights."""
PACKED = ("distilbert", "roberta", "xlm-roberta", "electra", "albert")
PADDED = ("mpnet", "deberta-v2", "modernbert", "mobilebert", "funnel", "llama")

SMALL: dict[str, Any] = {"device": "cuda", "precision": "auto", "epochs": 1, "batch_size": 8}
"""Three steps for 21 training rows (of 30 rows)."""


@pytest.fixture(autouse=True)
def _no_signal() -> Any:
    yield
    stop._asked.clear()


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a signal in this step."""
    done = [0]

    def asked_to() -> bool:
        done[0] += 1
        if done[0] == step:
            stop._asked.append(15)
        return bool(stop._asked)

    monkeypatch.setattr(stop, "asked_to", asked_to)


def settings(name: str) -> dict[str, Any]:
    return {"config": {"rank": 16} if name == "vera" else {}, **SMALL}


def cells() -> Iterator[Any]:
    """Yield every method on every device; combinations outside the sample are marked `grid`."""
    for name in METHODS:
        for capability, precision in CAPABILITIES.items():
            sampled = precision == "bf16" or name in IN_FP16
            yield pytest.param(name, capability, marks=() if sampled else pytest.mark.grid)


@pytest.mark.parametrize(("name", "capability"), list(cells()))
def test_method_resumes_and_finishes(
    card: Card,
    run_toy: RunToy,
    toy_task: ToyTask,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    capability: tuple[int, int],
) -> None:
    card(capability)
    architecture = "llama" if name == "prefix" else "bert"  # BERT has no key-value cache
    options = {"task": toy_task(architecture, rows=30), **settings(name)}
    if methods()[name].learning_rate is not None:
        with monkeypatch.context() as patched:
            interrupt_at(2, patched)
            broken = run_toy(name, architecture, **options)
        assert broken.record.status == "interrupted", broken.record.error
        stop._asked.clear()
    record = run_toy(name, architecture, **options).record
    assert record.status == "finished", record.error
    assert record.train["device"] == "cuda"
    assert record.train["precision"] == CAPABILITIES[capability]
    assert record.checks.problems == []


@pytest.mark.parametrize("architecture", [*PACKED, *PADDED])
def test_architecture_finishes(
    card: Card, run_toy: RunToy, toy_task: ToyTask, architecture: str
) -> None:
    card()
    made = run_toy("full", architecture, task=toy_task(architecture, rows=30), **SMALL)
    assert made.record.status == "finished", made.record.error
    assert ("layout" in made.record.deviations) == (architecture in PADDED)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_resumed_run_equals_uninterrupted_run(
    card: Card,
    run_toy: RunToy,
    toy_task: ToyTask,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    card((7, 5))  # with a gradient scaler
    options = {"task": toy_task("bert", rows=30), **SMALL}
    whole = run_toy(name, **options)
    expected = load_file(next(whole.folder.model.glob("*model.safetensors")))
    shutil.rmtree(whole.folder.path)
    whole.folder.path.mkdir()
    with monkeypatch.context() as patched:
        interrupt_at(2, patched)
        run_toy(name, **options)
    stop._asked.clear()
    again = run_toy(name, **options)
    found = load_file(next(again.folder.model.glob("*model.safetensors")))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_hook_skips_steps_that_overflow(
    card: Card, run_toy: RunToy, toy_task: ToyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise AdaLoRA's importance scores would become infinite."""
    card((7, 5))
    told, losses = [], []
    backward, after_step = Optimizer.backward, _Allocation.after_step

    def overflowing(self: Any, loss: Any, **options: Any) -> None:
        losses.append(1)
        backward(self, loss * (1e30 if len(losses) == 2 else 1), **options)

    def after(self: Any, step: int, weights: Any) -> None:
        told.append(step)
        assert all(w.grad is None or w.grad.isfinite().all() for w in weights.values())
        after_step(self, step, weights)

    monkeypatch.setattr(Optimizer, "backward", overflowing)
    monkeypatch.setattr(_Allocation, "after_step", after)
    record = run_toy("adalora", task=toy_task("bert", rows=30), **SMALL).record
    assert record.status == "finished", record.error
    assert record.train["precision"] == "fp16"
    assert told == [1, 3]
