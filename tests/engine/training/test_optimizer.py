"""AdamW's schedule, clipping, parameter groups and float32 master weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from tuneoff.config import TrainSpec
from tuneoff.engine.training.optimizer import Optimizer, _factor
from tuneoff.exceptions import Diverged
from tuneoff.methods.base import ParamGroup

CPU = torch.device("cpu")


def optimizer_of(
    model: nn.Module,
    masters: Any = None,
    param_groups: dict[str, ParamGroup] | None = None,
    **train: Any,
) -> Optimizer:
    settings = {"warmup_ratio": 0.0, "weight_decay": 0.0, "lr_scheduler_type": "constant"} | train
    masters = dict(model.named_parameters()) if masters is None else masters
    return Optimizer(model, masters, TrainSpec(**settings), 0.1, 10, CPU, param_groups)


def test_linear_schedule() -> None:
    train = TrainSpec(warmup_ratio=0.2)
    factors = [_factor(step, 10, train) for step in range(10)]
    assert factors[:2] == pytest.approx([1 / 3, 2 / 3])  # reaches 1 at the third step
    assert factors[2:] == pytest.approx([1 - i / 8 for i in range(8)])


def test_cosine_and_constant_schedules() -> None:
    cosine = [_factor(s, 10, TrainSpec(warmup_ratio=0, lr_scheduler_type="cosine")) for s in (0, 5)]
    assert cosine == pytest.approx([1.0, 0.5])
    sgd = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(sgd, 0, 10).lr_lambdas[0]
    ours = TrainSpec(warmup_ratio=0, lr_scheduler_type="cosine")
    assert [_factor(s, 10, ours) for s in range(11)] == pytest.approx(
        [theirs(s) for s in range(11)]
    )
    constant = TrainSpec(warmup_ratio=0.1, lr_scheduler_type="constant")
    assert [_factor(s, 10, constant) for s in (0, 1, 9)] == [0.5, 1.0, 1.0]


def test_learning_rate_follows_the_schedule() -> None:
    model = nn.Linear(2, 2)
    found = optimizer_of(model, warmup_ratio=0.1, lr_scheduler_type="linear")
    rates = []
    for _ in range(3):
        rates.append(found.learning_rate)
        found.backward(model(torch.ones(1, 2)).sum())
        found.step()
        found.sync_model()
    assert rates == pytest.approx([0.05, 0.1, 0.1 * 8 / 9])


def reference(model: nn.Module, loss: Any, steps: int, **options: Any) -> None:
    adamw = torch.optim.AdamW(model.parameters(), lr=0.1, **options)
    for _ in range(steps):
        adamw.zero_grad()
        loss(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        adamw.step()


def test_steps_equal_adamw_with_clipping() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 3)

    def loss(model: nn.Module) -> torch.Tensor:
        return (100 * model(x)).square().mean()

    found = optimizer_of(ours, max_grad_norm=0.5, adam_beta1=0.8, adam_epsilon=0.3)
    for _ in range(4):
        found.backward(loss(ours))
        found.step()
        found.sync_model()
    reference(theirs, loss, 4, weight_decay=0.0, betas=(0.8, 0.999), eps=0.3)
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_only_matrices_have_weight_decay() -> None:
    model = nn.ParameterDict(
        {
            "matrix": nn.Parameter(torch.ones(3, 3)),
            "bias": nn.Parameter(torch.ones(3)),
            "column": nn.Parameter(
                torch.ones(3, 1)
            ),  # a vector with the shape of a matrix, like IA3's
            "row": nn.Parameter(torch.ones(1, 3)),
        }
    )
    param_groups = {"column": ParamGroup(decays=False), "row": ParamGroup(decays=False)}
    found = optimizer_of(model, param_groups=param_groups, weight_decay=0.5)
    found.backward(sum(0.0 * p.sum() for p in model.values()))
    found.step()
    found.sync_model()
    assert torch.allclose(model["matrix"], torch.tensor(1 - 0.1 * 0.5))
    for name in ("bias", "column", "row"):
        assert torch.equal(model[name], torch.ones_like(model[name])), name


def test_small_steps_accumulate_in_master_weights() -> None:
    model = nn.Linear(2, 1, bias=False).to(torch.bfloat16)
    masters = {"weight": torch.full((1, 2), 100.0)}
    with torch.no_grad():
        model.weight.copy_(masters["weight"])
    found = optimizer_of(model, masters, max_grad_norm=0.0)
    # 100 - 0.1 rounds to 100 in bf16, whose resolution there is 0.5.
    for step in range(1, 7):
        found.backward(model(torch.ones(1, 2, dtype=torch.bfloat16)).sum())
        found.step()
        found.sync_model()
        torch.testing.assert_close(masters["weight"], torch.full((1, 2), 100 - 0.1 * step))
        assert torch.equal(model.weight, masters["weight"].bfloat16())
    assert model.weight[0, 0] == 99.5


def test_gradients_accumulate_within_a_step_only() -> None:
    """The gradient of a step is the float32 sum over its micro-batches, and begins at 0."""
    torch.manual_seed(0)
    x = torch.randn(6, 3, dtype=torch.bfloat16)
    weights = []
    for pieces in ([x], [x[:2], x[2:5], x[5:]]):
        model = nn.Linear(3, 1, bias=False).to(torch.bfloat16)
        masters = {"weight": torch.tensor([[0.5, -1.0, 2.0]])}
        with torch.no_grad():
            model.weight.copy_(masters["weight"])
        found = optimizer_of(model, masters, max_grad_norm=0.0, adam_epsilon=1.0)
        for _ in range(3):
            for piece in pieces:
                found.backward(model(piece).sum())
            found.step()
            found.sync_model()
        weights.append(masters["weight"])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=2e-3)
    # With eps = 1 the update depends on the gradient: 3 steps of g / (|g| + 1) each.
    gradient = x.float().sum(0)
    expected = torch.tensor([0.5, -1.0, 2.0]) - 3 * 0.1 * gradient / (gradient.abs() + 1)
    torch.testing.assert_close(weights[0][0], expected, rtol=0, atol=5e-3)


def test_bytes() -> None:
    model = nn.Linear(4, 2, bias=False).to(torch.bfloat16)
    found = optimizer_of(model, {"weight": model.weight.detach().float()})
    assert found.gradient_bytes() == 4 * 8
    found.backward(model(torch.ones(1, 4, dtype=torch.bfloat16)).sum())
    found.step()
    found.sync_model()
    assert (
        found.state_bytes() == 3 * 4 * 8 + 4
    )  # master weights, two moments, and the number of steps


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_gradient_stops_the_run(value: float) -> None:
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    found = optimizer_of(model)
    found.backward(model(torch.tensor([[value, 1.0]])).sum())
    with pytest.raises(Diverged, match="the gradient became"):
        found.step()
    assert torch.equal(model.weight, before)


def test_fp16_scales_the_loss_and_skips_overflows() -> None:
    model = nn.Linear(2, 1, bias=False).to(torch.float16)
    masters = {"weight": torch.ones(1, 2)}
    with torch.no_grad():
        model.weight.fill_(1)
    found = optimizer_of(model, masters)
    x = torch.full((1, 2), 100.0, dtype=torch.float16)
    found.backward(model(x).float().sum())  # 2^16 x 100 overflows in fp16
    found.step()
    found.sync_model()
    assert torch.equal(masters["weight"], torch.ones(1, 2))
    for _ in range(12):
        found.backward(model(x).float().sum())
        found.step()
        found.sync_model()
    assert (masters["weight"] < 1).all()


def test_parameter_group_has_its_own_rate_and_start() -> None:
    model = nn.ParameterDict({n: nn.Parameter(torch.ones(2, 2)) for n in ("plain", "fast", "late")})
    # 10 steps, so `late` starts at the third one.
    param_groups = {"fast": ParamGroup(rate=3.0), "late": ParamGroup(start=0.2)}
    found = optimizer_of(model, param_groups=param_groups, max_grad_norm=0.0)
    for step in range(1, 4):
        assert model["late"].requires_grad == (step > 2)
        found.backward(sum(p.sum() for p in model.values()))
        found.step()
        found.sync_model()
        assert found.learning_rate == pytest.approx(0.1)
        # With a constant gradient, AdamW's first steps have the size of the learning rate.
        assert model["plain"][0, 0].item() == pytest.approx(1 - 0.1 * step, abs=1e-5)
        assert model["fast"][0, 0].item() == pytest.approx(1 - 0.3 * step, abs=1e-5)
    assert model["late"][0, 0].item() == pytest.approx(0.9, abs=1e-5)


def test_overflowing_step_in_fp16_does_not_count() -> None:
    model = nn.Linear(2, 2).half()
    masters = {name: w.detach().float() for name, w in model.named_parameters()}
    found = optimizer_of(model, masters, warmup_ratio=0.1, lr_scheduler_type="linear")
    before, first_rate = masters["weight"].clone(), found.learning_rate

    def step(factor: float) -> bool:
        found.backward(model(torch.ones(1, 2, dtype=torch.float16)).float().sum() * factor)
        found.step()
        skipped = found.was_skipped()
        found.sync_model()
        return skipped

    assert step(1e6)  # the gradient is infinite in fp16
    assert torch.equal(masters["weight"], before)
    assert (found.steps_done(), found.learning_rate) == (0, first_rate)
    found._scaler.update(1.0)
    assert not step(1.0)
    assert not torch.equal(masters["weight"], before)
    assert found.steps_done() == 1
    assert found.learning_rate == pytest.approx(0.1)
    tensors, plain = found.state()
    again = optimizer_of(model, masters, warmup_ratio=0.1, lr_scheduler_type="linear")
    again.restore(tensors, plain)
    assert (again.steps_done(), again.learning_rate) == (1, found.learning_rate)
