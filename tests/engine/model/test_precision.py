from __future__ import annotations

import io

import pytest
import torch

from tuneoff.engine.model import precision
from tuneoff.engine.model.precision import (
    DTYPES,
    _cpu_multiplies,
    choose_device,
    choose_precision,
    emulation_warning,
    is_faster,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("asked", DTYPES)
def test_requested_precision_is_used(asked: str) -> None:
    assert choose_precision(asked, CPU) == asked


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("nothing is said", False),
    ],
)
def test_processors_with_bf16_products(
    monkeypatch: pytest.MonkeyPatch, flags: str, has: bool
) -> None:
    text = f"processor\t: 0\nmodel name\t: any\n{flags}\nbugs\t: bf16\n"
    monkeypatch.setattr(precision, "open", lambda _: io.StringIO(text), raising=False)
    assert _cpu_multiplies("bf16") is has
    assert (emulation_warning("bf16", CPU) is None) == has
    assert emulation_warning("fp32", CPU) is None
    if not has:
        assert choose_precision("auto", CPU) == "fp32"


def test_auto_without_information(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(precision, "open", refuse, raising=False)
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    assert emulation_warning("bf16", CPU) is None


class Products:
    """A clock that is advanced by products only; float64 takes twice as long as float32.

    The first product of each type is slower, as on a busy machine.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._met: set[torch.dtype] = set()

    def perf_counter(self) -> float:
        return self.now

    def linear(self, rows: torch.Tensor, weight: torch.Tensor) -> None:
        assert rows.shape[1] == weight.shape[1]
        busy = 0.0 if rows.dtype in self._met else 100.0 / rows.element_size()
        self._met.add(rows.dtype)
        self.now += rows.element_size() + busy


def test_fastest_of_several_products_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    products = Products()
    monkeypatch.setattr(precision, "time", products)
    monkeypatch.setattr(torch.nn.functional, "linear", products.linear)
    assert is_faster(torch.float32, torch.float64)
    assert not is_faster(torch.float64, torch.float32)


def test_auto_measures_on_this_machine() -> None:
    assert choose_precision("auto", CPU) in ("bf16", "fp32")


def test_device() -> None:
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert choose_device("auto") == CPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_is_used() -> None:
    device = choose_device("auto")
    assert device.type == "cuda"
    assert choose_precision("auto", device) in ("bf16", "fp16")
