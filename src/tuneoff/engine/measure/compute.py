"""Floating-point operations of a training, and the rate that the hardware reaches."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tuneoff.engine.kernels.packed_forward import unwrapped
from tuneoff.engine.measure.clock import synchronize
from tuneoff.engine.model.architecture import EncoderArchitecture
from tuneoff.methods.budget import elements


def training_flops(
    model: nn.Module,
    architecture: EncoderArchitecture,
    lengths: npt.NDArray[np.int64],
    above: int = 0,
) -> float:
    """Return the floating-point operations of one training epoch.

    This counts matrix products, two operations per multiply-add: forward, the gradient of the input
    from the first trained layer upward, and the gradient of each trained weight. Not counted are
    computations for padding, recomputations, what the last layer can omit because the head reads
    only first tokens, and embeddings and head (body 1 %).

    Args:
        model: The model, with the weights to train.
        architecture: Description of the model.
        lengths: Number of tokens of each text.
        above: Number of lowest layers that are not computed.
    """
    tokens = float(lengths.sum())
    squares = float((lengths.astype(np.float64) ** 2).sum())
    inner = unwrapped(model)
    layers = [
        nn.ModuleList([inner.get_submodule(name) for name in architecture.parts_of(i)])
        for i in range(above, len(architecture.layers))
    ]
    body = inner.get_submodule(architecture.body)
    in_layers = {id(p) for layer in layers for p in layer.parameters()}
    head = {id(p) for name in architecture.head for p in inner.get_submodule(name).parameters()}
    has_gradient = any(
        p.requires_grad for p in body.parameters() if id(p) not in in_layers and id(p) not in head
    )
    before_parting = {
        inner.get_submodule(name)
        for role in ("query", "key", "value")
        for name in architecture.roles[role]
    }
    total = 0.0
    for i, layer in enumerate(layers, above + 1):
        has_gradient = has_gradient or any(p.requires_grad for p in layer.parameters())
        first_tokens_only = i == len(architecture.layers) and architecture.parting is not None
        pairs = tokens if first_tokens_only else squares
        total += 4 * pairs * architecture.hidden_size * (3 if has_gradient else 1)
        for linear in _linears(layer):
            weight = cast(nn.Parameter, linear.weight)
            passes = 1 + has_gradient + weight.requires_grad
            all_tokens = not first_tokens_only or any(
                linear in module.modules() for module in before_parting
            )
            total += 2 * (tokens if all_tokens else len(lengths)) * elements(weight) * passes
    repeats = float(inner.config.num_hidden_layers) / len(architecture.layers)
    return total * max(
        1.0, repeats
    )  # ALBERT applies one layer repeatedly; BART's decoder adds layers


def _linears(layer: nn.Module) -> Iterable[nn.Linear]:
    for module in layer.modules():
        if isinstance(module, nn.Linear) and isinstance(module.weight, nn.Parameter):
            yield module


@cache
def product_rate(dtype: torch.dtype, device: torch.device, seconds: float = 0.3) -> float:
    """Measure the operations per second of a square matrix product in `dtype`, once per process.

    This is the best of several products of size 2048 x 2048 (8192 on a GPU) within about `seconds`.
    The size is increased from 256 as long as the next product fits into the time, because a
    processor that emulates `dtype` would need minutes, and into the free memory of a GPU.
    """
    size, largest = 256, 8192 if device.type == "cuda" else 2048
    a, b = _operands(size, dtype, device)
    a @ b  # the first product loads the library
    synchronize(device)
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        a @ b
        synchronize(device)
        now = time.perf_counter()
        best = min(best, now - start)
        if size < largest and now + 8 * best < end:  # twice the size takes eight times as long
            try:
                a, b = _operands(2 * size, dtype, device)
            except torch.OutOfMemoryError:
                largest = size
                continue
            best, size = float("inf"), 2 * size
        elif now >= end:
            return 2 * size**3 / best


def _operands(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return two random matrices, after checking that there is memory for their product."""
    a, b, _ = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(3))
    return a, b
