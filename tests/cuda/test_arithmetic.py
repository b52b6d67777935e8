"""Precision of runs on a CUDA device: bf16, TF32, and deterministic algorithms."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_in import CudaStandIn

from tuneoff.engine.inference.predict import Predictor
from tuneoff.engine.kernels.arithmetic import WORKSPACE, arithmetic
from tuneoff.engine.model.precision import choose_precision
from tuneoff.exceptions import BadInput
from tuneoff.results.store import RunFolder

Card = Callable[..., CudaStandIn]
RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]

CUDA = torch.device("cuda", 0)
SMALL: dict[str, Any] = {"device": "cuda", "epochs": 1, "batch_size": 8}


def test_bf16_is_rejected_without_support(card: Card) -> None:
    card((7, 5))
    with pytest.raises(BadInput) as raised:
        choose_precision("bf16", CUDA)
    text = str(raised.value)
    assert "NVIDIA stand-in has compute capability 7.5" in text
    assert "fp16" in text
    assert choose_precision("auto", CUDA) == "fp16"
    assert choose_precision("fp32", CUDA) == "fp32"


def test_bf16_is_rejected_before_a_study(
    card: Card, tiny_model: Callable[[str], Path], toy_csv: Callable[..., Path], tmp_path: Path
) -> None:
    from tuneoff.scheduling.worker import prepare

    card((7, 5))
    said: list[dict[str, Any]] = []
    request = {"model": str(tiny_model("bert")), "data": {"train": str(toy_csv(30))}}
    request |= {"max_length": 64, "device": "cuda", "folder": str(tmp_path)}
    prepare({**request, "precisions": ["bf16", "fp16"]}, said.append)
    assert said[-1]["event"] == "refused"
    (fault,) = said[-1]["issues"]
    assert "bf16" in fault["message"]
    prepare({**request, "precisions": ["fp16"]}, said.append)
    assert said[-1]["event"] == "prepared"
    assert said[-1]["precision"] == "fp16"


def test_bf16_model_predicts_on_device_without_bf16(
    card: Card, run_toy: RunToy, toy_task: ToyTask
) -> None:
    with CudaStandIn((8, 0)):
        task = toy_task("bert", rows=30)
        made = run_toy("full", task=task, precision="bf16", max_length=64, **SMALL)
    card((7, 5))
    found = Predictor(RunFolder(made.folder.path)).predict(["the red cat", "soup and bread"])
    assert len(found) == 2


@pytest.mark.parametrize(
    ("capability", "tf32", "expected"),
    [((8, 0), True, "tf32"), ((8, 0), False, "ieee"), ((7, 5), True, "ieee")],
)
def test_tf32_is_enabled_during_a_run_only(
    card: Card, capability: tuple[int, int], tf32: bool, expected: str
) -> None:
    card(capability)
    before = torch.get_float32_matmul_precision()
    with arithmetic(CUDA, tf32=tf32, deterministic=False):
        assert torch.backends.cuda.matmul.fp32_precision == expected
    assert torch.get_float32_matmul_precision() == before
    with arithmetic(torch.device("cpu"), tf32=True, deterministic=True):
        assert torch.get_float32_matmul_precision() == before
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("capability", [(8, 0), (7, 5)])
@pytest.mark.parametrize("tf32", [True, False])
def test_record_states_whether_tf32_was_used(
    card: Card, run_toy: RunToy, toy_task: ToyTask, capability: tuple[int, int], tf32: bool
) -> None:
    card(capability)
    task = toy_task("bert", rows=30)
    record = run_toy("full", task=task, precision="fp32", tf32=tf32, **SMALL).record
    assert record.status == "finished", record.error
    used = tf32 and capability >= (8, 0)
    assert ("tf32" in record.deviations) == used
    assert record.train["tf32"] == (tf32 if capability >= (8, 0) else None)


def test_gpu_settings_are_ignored_on_a_cpu(run_toy: RunToy, toy_task: ToyTask) -> None:
    record = run_toy("full", task=toy_task("bert", rows=30), **SMALL | {"device": "cpu"}).record
    assert "tf32" not in record.deviations
    for key in ("tf32", "deterministic", "cuda_graphs"):
        assert record.train[key] is None


@pytest.fixture
def no_workspace(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Environment before the first deterministic run."""
    monkeypatch.setenv(WORKSPACE, "")  # so that monkeypatch restores it
    del os.environ[WORKSPACE]
    yield
    with suppress(KeyError):
        del os.environ[WORKSPACE]


@pytest.mark.usefixtures("no_workspace")
@pytest.mark.parametrize("capability", [(8, 0), (7, 5)])
@pytest.mark.parametrize(
    ("name", "architecture"),
    [("full", "bert"), ("lora", "deberta-v2"), ("lora", "modernbert"), ("full", "funnel")],
)
def test_deterministic_setting_selects_deterministic_algorithms(
    card: Card,
    run_toy: RunToy,
    toy_task: ToyTask,
    name: str,
    architecture: str,
    capability: tuple[int, int],
) -> None:
    """The simulated device raises an error if there is no such algorithm or cuBLAS workspace."""
    found = card(capability)
    task = toy_task(architecture, rows=30)
    made = run_toy(name, architecture, task=task, deterministic=True, precision="auto", **SMALL)
    assert made.record.status == "finished", made.record.error
    assert made.record.train["deterministic"] is True
    assert not torch.are_deterministic_algorithms_enabled()
    if architecture == "bert":  # PyTorch checks indices on the host, which a graph cannot contain
        assert any(line.startswith("deterministic") for line in found.synchronisations)
