"""Compare the time of attention on this CPU between PyTorch's flash kernel and tuneoff's.

    python benchmarks/attention.py

For several numbers of texts and lengths (12 heads of size 32, bf16), the script prints the median
time of the forward and backward pass of both kernels in milliseconds, measured alternately.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from tuneoff.engine.kernels.attention import (
    _group_backward,
    _group_forward,
    _GroupedAttention,
    _room,
)
from tuneoff.engine.kernels.packing import Packing

HEADS, SIZE = 12, 32
SHAPES = ((16, 16), (16, 32), (16, 64), (8, 128), (16, 320), (2, 512))
ROUNDS = 7


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def times_of(texts: int, length: int) -> list[float]:
    """Return median milliseconds: flash forward and backward, tuneoff forward and backward."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    scale = SIZE**-0.5
    q, k, v, d = (torch.randn(texts, HEADS, length, SIZE).bfloat16() for _ in range(4))
    packing = Packing([length] * texts, torch.device("cpu"))
    (group,) = packing.groups
    out, log_sum = flash(q, k, v, 0.0, False, scale=scale)
    rows = ((d * out).sum(-1, keepdim=True), log_sum[..., None].bfloat16().contiguous())
    rooms = (_room(packing, q.transpose(1, 2)[0]), _room(packing, q.transpose(1, 2)[0]))
    work: list[Callable[[], object]] = [
        lambda: flash(q, k, v, 0.0, False, scale=scale),
        lambda: flash_backward(d, q, k, v, out, log_sum, 0.0, False, scale=scale),
        lambda: _group_forward(q, k, v, group, scale, rooms[0]),
        lambda: _group_backward(q, k, v, d, *rows, group, scale, rooms),
    ]
    for call in work:  # the first call builds the kernels
        call()
    rounds = [[milliseconds(call) for call in work] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def times_of_pairs() -> list[float]:
    """Return median milliseconds of tuneoff's kernel for 16 texts as long as SNLI's pairs."""
    draw, found = np.random.default_rng(0), []
    for _ in range(2 * ROUNDS):
        lengths = sorted(draw.lognormal(3.2, 0.3, 16).astype(int).tolist())
        packing = Packing(lengths, torch.device("cpu"))
        rows = sum(lengths) + packing.spare
        states = [torch.randn(rows, HEADS, SIZE).bfloat16().requires_grad_() for _ in range(3)]
        start = time.perf_counter()
        out = _GroupedAttention.apply(*states, packing, SIZE**-0.5)
        middle = time.perf_counter()
        out.sum().backward()
        found.append((1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)))
    return [statistics.median(column) for column in zip(*found[ROUNDS:], strict=True)]


def main() -> None:
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print("                forward                  backward")
    print("texts  tokens   flash tuneoff   ratio    flash tuneoff   ratio")
    for texts, length in SHAPES:
        flash, flash_back, ours, back = times_of(texts, length)
        forward = f"{flash:7.2f} {ours:7.2f} {flash / ours:6.1f}x"
        backward = f"{flash_back:8.2f} {back:7.2f} {flash_back / back:6.1f}x"
        print(f"{texts:5}  {length:6} {forward} {backward}")
    forward_of_pairs, backward_of_pairs = times_of_pairs()
    print(f"   16   pairs         {forward_of_pairs:7.2f}                 {backward_of_pairs:7.2f}")


if __name__ == "__main__":
    main()
