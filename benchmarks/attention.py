"""Attention on this CPU: PyTorch's flash kernel against the backward pass of ours.

    python benchmarks/attention.py

Prints, for some numbers of texts and lengths (12 heads of 32, bf16), the median milliseconds of
the flash kernel's forward and backward pass and of our backward pass, taken in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from tuneoff.model.attention import _group_backward

HEADS, SIZE = 12, 32
SHAPES = ((16, 16), (16, 32), (16, 64), (8, 128), (16, 304), (2, 512))
ROUNDS = 7


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def times_of(texts: int, length: int) -> list[float]:
    """Median milliseconds: forward, the flash kernel's backward pass, ours."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    scale = SIZE**-0.5
    q, k, v, d = (torch.randn(texts, HEADS, length, SIZE).bfloat16() for _ in range(4))
    out, log_sum = flash(q, k, v, 0.0, False, scale=scale)
    work: list[Callable[[], object]] = [
        lambda: flash(q, k, v, 0.0, False, scale=scale),
        lambda: flash_backward(d, q, k, v, out, log_sum, 0.0, False, scale=scale),
        lambda: _group_backward(q, k, v, out, d, log_sum, scale, padded=False),
    ]
    for call in work:  # kernels are built at their first call
        call()
    rounds = [[milliseconds(call) for call in work] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print("texts  tokens  forward  backward: flash    ours   ratio")
    for texts, length in SHAPES:
        forward, theirs, ours = times_of(texts, length)
        ratio = theirs / ours
        print(f"{texts:5}  {length:6}  {forward:7.2f}  {theirs:15.2f} {ours:7.2f} {ratio:6.1f}x")


if __name__ == "__main__":
    main()
