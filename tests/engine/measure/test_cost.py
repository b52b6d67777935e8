"""Measurement of memory, time, storage and arithmetic."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from tuneoff.engine.measure import memory
from tuneoff.engine.measure.clock import TrainClock
from tuneoff.engine.measure.compute import product_rate, training_flops
from tuneoff.engine.measure.environment import environment
from tuneoff.engine.measure.memory import PeakMemory, weight_bytes
from tuneoff.engine.measure.storage import storage_bytes

CPU = torch.device("cpu")
MB = 1 << 20


def touch(megabytes: int) -> torch.Tensor:
    return torch.ones(megabytes * MB // 4)


@pytest.mark.parametrize("kept_by_the_system", [True, False])
def test_peak_memory(monkeypatch: pytest.MonkeyPatch, kept_by_the_system: bool) -> None:
    if not kept_by_the_system:
        monkeypatch.setattr(memory, "_reset_peak", lambda: False)
    elif sys.platform != "linux":
        pytest.skip("Linux alone keeps a peak that can be reset")
    found = PeakMemory(CPU)
    block = touch(200)
    while found.peak() < 195 * MB:  # until the sampler has read the resident memory
        time.sleep(0.01)
    del block
    gc.collect()
    assert found.peak() < 260 * MB
    found.reset()
    assert found.peak() < 60 * MB
    kept = touch(100)
    found.reset()  # memory in use still counts
    assert 90 * MB <= found.peak() < 160 * MB
    assert kept.sum() > 0
    assert found.reserved() is None


def test_weight_bytes_counts_shared_weights_once() -> None:
    a, b = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
    b.weight = a.weight
    model = torch.nn.Sequential(a, b)
    model.register_buffer("positions", torch.zeros(8, dtype=torch.int64))
    assert weight_bytes(model) == 4 * 16 + 64
    assert weight_bytes(model.to(torch.bfloat16)) == 2 * 16 + 64


class Clockwork:
    """A clock that is advanced by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork()
    monkeypatch.setattr("tuneoff.engine.measure.clock.time", made)
    return made


def test_clock_measures_training_and_throughput_after_warm_up(
    clockwork: Clockwork,
) -> None:
    clock = TrainClock(CPU, warmup_steps=2)
    for _ in range(2):
        with clock.running():
            for seconds in (4.0, 1.0, 1.0) if clockwork.now == 100 else (1.0, 1.0, 1.0):
                clockwork.now += seconds
                clock.step(8, 100)
        with clock.evaluating():
            clockwork.now += 7
        clockwork.now += 50  # counts for neither
    assert clock.train_seconds == 9
    assert clock.evaluate_seconds == 14
    assert (clock.samples_so_far, clock.tokens) == (48, 600)
    assert clock.samples_per_second == 32 / 4  # the first two steps took 5 s
    assert clock.tokens_per_second == 400 / 4


def test_clock_of_a_single_step(clockwork: Clockwork) -> None:
    clock = TrainClock(CPU, warmup_steps=1)
    with clock.running():
        clockwork.now += 2
        clock.step(8, 100)
    assert clock.samples_per_second == 4


def test_storage_excludes_links_and_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x" * 5000)
    folder = tmp_path / "model"
    (folder / "base").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"x" * 100)
    (folder / "adapter_config.json").write_bytes(b"x" * 20)
    (folder / "base" / "config.json").write_bytes(b"x" * 3)
    (folder / "base" / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md"):
        (folder / name).write_bytes(b"x" * 7000)
    assert storage_bytes(folder) == 123


def test_flops_example(load_tiny: Callable[..., Any]) -> None:
    lengths = np.array([10, 30])
    tokens, squares, hidden, wide = 40, 10**2 + 30**2, 64, 128
    weights = 4 * hidden**2 + 2 * hidden * wide
    forward = 2 * tokens * weights + 4 * squares * hidden  # of one layer
    # last layer, two texts: queries, keys and values of all tokens, the rest for first tokens
    rest = weights - 3 * hidden**2
    last = 2 * (tokens * 3 * hidden**2 + 2 * rest) + 4 * tokens * hidden
    expected = {
        "full": 3 * (2 * forward + last),  # the backward pass needs twice the forward pass
        "head": 2 * forward + last,
        "baseline": 2 * forward + last,
        "partial": 3 * (forward + last) + forward,  # the last two of three layers
    }
    for name, flops in expected.items():
        classifier = load_tiny(name).classifier
        found = training_flops(classifier.model, classifier.architecture, lengths)
        assert found == flops, name
    # LoRA: the frozen matrices have no gradient, and those of the adapters are small.
    classifier = load_tiny("lora", rank=4, targets=["query"]).classifier
    adapters = 2 * hidden * 4
    layer = 2 * tokens * (2 * weights + 3 * adapters) + 3 * 4 * squares * hidden
    top = 2 * last + 2 * tokens * 3 * adapters + 4 * tokens * hidden
    assert training_flops(classifier.model, classifier.architecture, lengths) == 2 * layer + top


def test_flops_of_layers_with_shared_weights(tmp_path: Path) -> None:
    """ALBERT's four layers compute four times with the same weights."""
    from transformers import AlbertConfig, AlbertForSequenceClassification

    from tuneoff.engine.model.architecture import describe

    sizes = {"num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30}
    flops = []
    for layers in (1, 4):
        config = AlbertConfig(hidden_size=16, num_hidden_layers=layers, **sizes)
        model = AlbertForSequenceClassification(config)
        flops.append(training_flops(model, describe(model), np.array([5, 7])))
    assert flops[1] == 4 * flops[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_rate(dtype: torch.dtype) -> None:
    assert product_rate(dtype, CPU, seconds=0.0) > 0


class Multiplier(TorchFunctionMode):
    """A processor with a given rate, whose clock is advanced by products only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.now, self.largest = rate, 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.Tensor.matmul:
            return func(*args, **(kwargs or {}))
        self.largest = max(self.largest, len(args[0]))
        self.now += 2 * len(args[0]) ** 3 / self.rate
        return args[0]


@pytest.mark.parametrize(("rate", "largest"), [(1e8, 256), (2e10, 1024), (1e12, 2048)])
def test_product_rate_of_a_slow_processor_is_measured_quickly(
    monkeypatch: pytest.MonkeyPatch, rate: float, largest: int
) -> None:
    """Emulated bf16 has about 1e8 operations per second: 170 s for a 2048 x 2048 product."""
    with Multiplier(rate) as multiplier:
        monkeypatch.setattr("tuneoff.engine.measure.compute.time", multiplier)
        assert product_rate.__wrapped__(torch.float32, CPU) == pytest.approx(rate)
    assert multiplier.largest == largest
    assert multiplier.now < 0.7


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    found = environment(CPU)
    assert found["preload"] == "libjemalloc.so.2"
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 1 << 28


def test_driver_version_from_kernel_or_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneoff.engine.measure.environment import _driver_version

    file = tmp_path / "version"
    monkeypatch.setattr("tuneoff.engine.measure.environment._DRIVER_VERSION", file)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _driver_version() is None
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 570.86.15\necho 570.86.15\n")
    program.chmod(0o755)
    assert _driver_version() == "570.86.15"
    file.write_text("580.65.06\n")
    assert _driver_version() == "580.65.06"


def test_memory_in_a_new_process() -> None:
    """The peak is relative to the level before the model is loaded, so libraries do not count."""
    code = (
        "import torch; from tuneoff.engine.measure.memory import PeakMemory\n"
        "found = PeakMemory(torch.device('cpu'))\n"
        "assert found.peak() < 20e6, found.peak()\n"
        "x = torch.ones(50_000_000); del x\n"
        "assert 195e6 <= found.peak() < 230e6, found.peak()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
