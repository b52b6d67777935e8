"""Dropout from random bytes is equivalent to `nn.Dropout`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tuneoff.engine.kernels.dropout import ByteDropout, use_byte_dropout


def dropout(p: float, seed: int = 0) -> ByteDropout:
    return ByteDropout(p, np.random.Generator(np.random.SFC64(seed)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9])
def test_rate_and_mean(p: float, dtype: torch.dtype) -> None:
    out = dropout(p)(torch.ones(300_000, dtype=dtype)).float()
    assert abs((out == 0).float().mean().item() - p) < 0.004
    assert abs(out.mean().item() - 1) < 0.02
    assert len(out.unique()) == 2


def test_gradient_has_the_same_mask() -> None:
    x = torch.randn(40, 33).T.requires_grad_()  # not contiguous, size not a multiple of 8
    out = dropout(0.3)(x)
    out.backward(torch.full_like(out, 2.0))
    assert x.grad is not None
    assert 0 < (out == 0).sum() < out.numel()
    assert torch.equal(x.grad == 0, out == 0)
    torch.testing.assert_close(x.grad[out != 0] / 2, (out / x)[out != 0])


def test_evaluation_changes_nothing() -> None:
    layer, x = dropout(0.5).eval(), torch.randn(10)
    assert layer(x) is x


def test_mask_depends_on_the_seed() -> None:
    x = torch.ones(1000)
    first, second = dropout(0.5, 1), dropout(0.5, 1)
    drawn = first(x)
    assert torch.equal(drawn, second(x))
    assert not torch.equal(drawn, first(x))  # the random stream continues
    assert not torch.equal(drawn, dropout(0.5, 2)(x))


def test_rate_close_to_one_keeps_some_values() -> None:
    out = dropout(0.9999)(torch.ones(100_000))
    assert out.isfinite().all()
    assert 0 < (out != 0).sum() < 2000


def test_layers_with_rate_zero_or_one_are_unchanged() -> None:
    model = nn.Sequential(nn.Dropout(0.0), nn.Dropout(0.1), nn.Dropout(1.0))
    use_byte_dropout(model, 0)
    assert [type(x) for x in model] == [nn.Dropout, ByteDropout, nn.Dropout]


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_all_dropout_layers_of_a_model_are_replaced(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    made = load_tiny("lora", architecture, dropout=0.2)
    modules = dict(made.classifier.model.named_modules())
    left = [n for n, m in modules.items() if type(m) is nn.Dropout and m.p > 0]
    assert left == []
    replaced = {m.p for m in modules.values() if isinstance(m, ByteDropout)}
    assert 0.2 in replaced  # the adapter's
    assert 0.1 in replaced  # the model's
