"""AdamW with half-precision gradients is equivalent to AdamW with float32 gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tuneoff.engine.kernels import half_precision_adamw as half_gradients
from tuneoff.engine.kernels.half_precision_adamw import HalfPrecisionAdamW

STEPS = 4


def gradients_of(step: int, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=draw).bfloat16() for shape in shapes]


@pytest.mark.parametrize("chunk", [1, 20, 10**6])
def test_steps_equal_adamw(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(half_gradients, "CHUNK", chunk)
    shapes: list[tuple[int, ...]] = [(5, 3), (3,), (4, 4), (2,)]
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(9)) for shape in shapes]
    expected, found = ([nn.Parameter(w.clone()) for w in start] for _ in range(2))

    def groups(masters: list[nn.Parameter]) -> list[dict[str, object]]:
        return [
            {"params": masters[:2], "lr": 0.1, "weight_decay": 0.1},
            {"params": masters[2:], "lr": 0.01, "weight_decay": 0.0},
        ]

    plain, own = (torch.optim.AdamW(groups(m), fused=True) for m in (expected, found))
    # The last weight has no separate master weight, like the head; its gradient is float32.
    weights = [nn.Parameter(m.detach().bfloat16()) for m in found[:-1]] + [found[-1]]
    halves = HalfPrecisionAdamW(own, list(zip(weights, found, strict=True)))
    for step in range(STEPS):
        drawn = gradients_of(step, shapes)
        if step == 1:  # without a gradient, the weight and its moments decay
            drawn[1].zero_()
        for master, gradient in zip(expected, drawn, strict=True):
            master.grad = gradient.float()
        norm = nn.utils.get_total_norm([gradient.float() for gradient in drawn])
        plain.grad_scale = norm.clamp_min(1.0)  # type: ignore[attr-defined]
        plain.step()
        for weight, gradient in zip(weights, drawn, strict=True):
            weight.grad = gradient.to(weight.dtype)
        if step == 1:
            weights[1].grad = None
        torch.testing.assert_close(halves.norm(), norm)
        halves.step(norm.clamp_min(1.0))
        assert all(weight.grad is None for weight in weights)
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)
    assert own.state[found[0]]["step"] == STEPS


def test_weight_before_its_start_is_unchanged() -> None:
    masters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    weights = [nn.Parameter(m.detach().bfloat16()) for m in masters]
    adamw = torch.optim.AdamW(masters, lr=0.1, fused=True)
    halves = HalfPrecisionAdamW(adamw, list(zip(weights, masters, strict=True)))
    weights[0].grad = torch.ones(2, dtype=torch.bfloat16)
    halves.step(torch.tensor(1.0))
    assert masters[0].tolist() != [1, 1]
    assert masters[1].tolist() == [1, 1]
    assert masters[1] not in adamw.state
