"""The fused LoRA layer is equivalent to PEFT's layer, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear
from torch import Tensor

from tuneoff.engine.kernels.low_rank_linear import fuse_low_rank
from tuneoff.engine.model.load import PreparedModel

LoadTiny = Callable[..., PreparedModel]
ROLES, LAYERS = 6, 3
"""Number of linear layers in each of the tiny model's three layers."""


def low_rank_layers(prepared: PreparedModel) -> list[Any]:
    return [m for m in prepared.classifier.model.modules() if type(m) is Linear]


def is_fused(layer: Any) -> bool:
    return "forward" in vars(layer)


def found(layer: Any, x: Tensor, d_out: Tensor) -> list[Tensor | None]:
    """Return the output and the gradients of the input and of the two matrices."""
    x = x.clone().requires_grad_()
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    for weight in weights:
        weight.grad = None
    out = layer(x)
    out.backward(d_out)
    return [out, x.grad, *(weight.grad for weight in weights)]


def assert_same_as_peft(layer: Any, tolerance: float) -> None:
    torch.manual_seed(1)
    base = layer.base_layer
    dtype = base.weight.dtype
    with torch.no_grad():  # B is zero at first, which would hide the adapter
        layer.lora_B["default"].weight.normal_(std=0.3)
    x = torch.randn(1, 7, base.in_features).to(dtype)
    d_out = torch.randn(1, 7, base.out_features).to(dtype)
    ours = found(layer, x, d_out)
    fused = vars(layer).pop("forward")
    theirs = found(layer, x, d_out)
    layer.forward = fused
    for mine, yours in zip(ours, theirs, strict=True):
        assert (mine is None) == (yours is None)
        if mine is not None and yours is not None:
            torch.testing.assert_close(mine, yours, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["lora", "rslora", "pissa", "lora_plus", "lora_fa"])
def test_layer_equals_peft(load_tiny: LoadTiny, name: str) -> None:
    layers = low_rank_layers(load_tiny(name))
    assert len(layers) == ROLES * LAYERS
    assert all(is_fused(layer) for layer in layers)
    for layer in layers[:ROLES]:
        assert_same_as_peft(layer, 1e-4)
        trains = layer.lora_A["default"].weight.grad is not None
        assert trains == (name != "lora_fa")


def test_rounding_in_bfloat16_is_not_larger(load_tiny: LoadTiny) -> None:
    layers = low_rank_layers(load_tiny("lora", dtype=torch.bfloat16))
    assert len(layers) == ROLES * LAYERS
    for layer in layers:
        assert_same_as_peft(layer, 0.03)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("dora", {}), ("lora", {"dropout": 0.1}), ("lora", {"bias": "all"})],
)
def test_other_adapters_are_not_fused(
    load_tiny: LoadTiny, name: str, settings: dict[str, Any]
) -> None:
    layers = low_rank_layers(load_tiny(name, **settings))
    assert layers
    assert not any(is_fused(layer) for layer in layers)


def test_merged_and_disabled_adapters(load_tiny: LoadTiny) -> None:
    layer = low_rank_layers(load_tiny("lora"))[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    x = torch.randn(1, 5, layer.base_layer.in_features)
    adapted = layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), adapted, rtol=1e-4, atol=1e-4)
    layer.unmerge()
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), layer.base_layer(x))


def test_model_without_adapter(load_tiny: LoadTiny) -> None:
    assert fuse_low_rank(load_tiny("full").classifier.model) == 0
