"""Rates of plain operations on this GPU, as a reference for all other figures."""

from __future__ import annotations

import time
from collections.abc import Callable

from check import Check

WIDTH, INNER = 768, 3072  # BERT-base's states, and its feed-forward layers
TOKENS = {"snli 8": 208, "snli 32": 832, "reviews 32": 8192, "evaluation": 65536}


def rates(check: Check) -> None:
    """Measure products in bf16, copies, the launch of a small operation, and AdamW."""
    import torch

    size = 8192 if check.on_gpu else 256
    check.note("product", _product(check, size, size, size))
    rate = check.findings["product"]["operations_per_second"]
    check.summary = f"{rate / 1e12:.0f} T operations/s in a bf16 product of {size}"
    shapes = {}
    for name, tokens in TOKENS.items():
        tokens = tokens if check.on_gpu else 16
        for part, (m, k, n) in {
            "query": (tokens, WIDTH, WIDTH),
            "inner": (tokens, WIDTH, INNER),
            "outer": (tokens, INNER, WIDTH),
            "gradient of inner": (INNER, tokens, WIDTH),
        }.items():
            shapes[f"{name}, {part}"] = _product(check, m, k, n)
    check.note("bert_base_products", shapes)
    check.note("copies", _copies(check))
    x = torch.ones(8, device=check.device)
    check.note("small_operation_seconds", seconds_per_call(check, lambda: x.add_(1), 2000))
    check.note("adamw", _adamw(check))
    if check.on_gpu:
        copy = check.findings["copies"]["on the device"] / 1e12
        check.summary += (
            f", {copy:.2f} TB/s copied,"
            f" {check.findings['small_operation_seconds'] * 1e6:.1f} us per small operation"
        )


def seconds_per_call(check: Check, call: Callable[[], object], repeats: int) -> float:
    """Return the mean seconds of `repeats` consecutive calls, after a warm-up."""
    for _ in range(max(3, repeats // 10)):
        call()
    _wait(check)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(check)
    return (time.perf_counter() - start) / repeats


def _wait(check: Check) -> None:
    import torch

    if check.on_gpu:
        torch.cuda.synchronize()


def _product(check: Check, m: int, k: int, n: int) -> dict[str, float]:
    """Measure (m, k) x (k, n) in bf16 for about 0.2 s, after a warm-up."""
    import torch

    a = torch.randn(m, k, device=check.device, dtype=torch.bfloat16)
    b = torch.randn(k, n, device=check.device, dtype=torch.bfloat16)
    out = torch.empty(m, n, device=check.device, dtype=torch.bfloat16)
    work = 2.0 * m * k * n
    repeats = int(min(1000, max(20, 1e14 / work))) if check.on_gpu else 2
    seconds = seconds_per_call(check, lambda: torch.mm(a, b, out=out), repeats)
    return {"seconds": seconds, "operations_per_second": work / seconds}


def _copies(check: Check) -> dict[str, float]:
    """Return bytes per second. A copy on the device reads and writes, so each byte counts twice."""
    import torch

    count = (1 << 30) if check.on_gpu else 1 << 20
    device = torch.empty(count, dtype=torch.uint8, device=check.device)
    other = torch.empty_like(device)
    found = {"on the device": 2 * count / seconds_per_call(check, lambda: other.copy_(device), 20)}
    if check.on_gpu:
        count >>= 2
        for name, pinned in (("to the device, pinned", True), ("to the device, pageable", False)):
            host = torch.empty(count, dtype=torch.uint8, pin_memory=pinned)
            part = device[:count]

            def copy(host: torch.Tensor = host, part: torch.Tensor = part) -> object:
                return part.copy_(host, non_blocking=True)

            found[name] = count / seconds_per_call(check, copy, 5)
    return found


def _adamw(check: Check) -> dict[str, float]:
    """Measure a fused AdamW step for float32 tensors of BERT-base's number and sizes."""
    import torch

    sizes = [[WIDTH, INNER], [INNER, WIDTH], *([[WIDTH, WIDTH]] * 4), *([[WIDTH]] * 10)]
    shapes = [[30522 if check.on_gpu else 100, WIDTH], *sizes * (12 if check.on_gpu else 1)]
    weights = [torch.zeros(shape, device=check.device, requires_grad=True) for shape in shapes]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    adamw = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    seconds = seconds_per_call(check, adamw.step, 20)
    norm = seconds_per_call(check, lambda: torch.nn.utils.clip_grad_norm_(weights, 1.0), 20)
    return {
        "weights": sum(w.numel() for w in weights),
        "step_seconds": seconds,
        "clip_grad_norm_seconds": norm,
    }
