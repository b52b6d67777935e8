"""Compare the engine's attention on packed rows with softmax attention in float64."""

from __future__ import annotations

import math
from typing import Any

import torch
from check import Check
from torch import Tensor, nn

from tuneoff.engine.kernels.attention import packed_attention
from tuneoff.engine.kernels.packing import Packing

LENGTHS = [1, 2, 3, 7, 8, 9, 15, 16, 31, 33, 64, 65, 100, 127, 129, 200, 256, 300, 384, 511, 512]
UNIFORM = {"all 512": [512] * 4, "all 1": [1] * 8, "all 26": [26] * 8}
SIZES = (16, 26, 32, 64)
SPARE = 37
"""Unused positions at the end of a row, as the engine adds them to round its size up."""

HEADS = 4
MOST = {torch.bfloat16: 0.012, torch.float16: 0.0015, torch.float32: 2e-3}
"""Largest relative error: about three roundings of the type, or of TF32."""


def varlen(check: Check) -> None:
    """Check the forward and backward pass for all cases; then measure the kernel's limits."""
    lengths = LENGTHS if check.on_gpu else [x for x in LENGTHS if x < 70]
    forms = [(name, first) for name in ("mixed", "mixed, spare places") for first in (False, True)]
    cases = [(size, torch.bfloat16, first, name) for size in SIZES for name, first in forms]
    cases += [(64, torch.float16, first, "mixed") for first in (False, True)]
    cases += [(32, torch.float32, False, "mixed")]
    cases += [(size, torch.bfloat16, False, name) for size in (32, 64) for name in UNIFORM]
    errors: dict[str, Any] = {}
    for size, dtype, first, name in cases:
        form = "first tokens" if first else "all tokens"
        title = f"head size {size}, {str(dtype)[6:]}, {form}, lengths {name}"
        with check.part(title):
            chosen, spare = UNIFORM.get(name, lengths), SPARE if "spare" in name else None
            errors[title] = _errors(check.device, chosen, size, dtype, first, spare)
            check.note("relative_errors", errors)
            for tensor, error in errors[title].items():
                most = MOST[dtype]
                check.expect(error <= most, f"{title}: {tensor} has error {error:.2g} > {most}")
    if check.on_gpu:
        check.note("raw_kernel", _raw_limits())
        check.note("seconds", _times(check))
    worst = max((error for found in errors.values() for error in found.values()), default=None)
    worst_text = "none measured" if worst is None else f"{worst:.2g}"
    check.summary = f"{len(errors)} of {len(cases)} cases computed, largest error {worst_text}"


def _errors(
    device: torch.device,
    lengths: list[int],
    size: int,
    dtype: torch.dtype,
    first: bool,
    spare: int | None,
) -> dict[str, float]:
    """Return ||found - expected|| / ||expected|| of the output and of each gradient.

    If the expected gradient is zero (texts of one token), the norm of the output's gradient is the
    denominator.
    """
    module = nn.Identity()
    last = frozenset({module}) if first else frozenset()
    packing = Packing(lengths, device, last, spare=spare)
    starts = packing.starts[: len(lengths)]
    tokens, real = sum(lengths) + packing.spare, sum(lengths)
    draw = torch.Generator(device.type).manual_seed(0)
    q, k, v, d_out = (
        torch.randn(1, HEADS, tokens, size, generator=draw, device=device).to(dtype)
        for _ in range(4)
    )
    d_out = d_out.transpose(1, 2).contiguous()
    if first:
        only = torch.zeros(tokens, 1, 1, device=device, dtype=dtype)
        only[starts] = 1
        d_out = d_out * only
    d_out[:, real:] = 0
    for x in (q, k, v):
        x.requires_grad_()
    scale = size**-0.5
    out, _ = packed_attention(module, q, k, v, None, scaling=scale, packing=packing)
    found = [out, *torch.autograd.grad(out, (q, k, v), d_out)]
    doubles = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected_out = _reference(*doubles, lengths, scale)
    expected = [
        expected_out,
        *torch.autograd.grad(expected_out, doubles, d_out[:, :real].double()),
    ]
    if first:
        found[0], expected[0] = (x[:, starts] for x in (found[0], expected[0]))
    else:
        found[0] = found[0][:, :real]
    total = float(d_out.double().norm())
    result = {}
    names = ("out", "gradient of query", "gradient of key", "gradient of value")
    for name, one, other in zip(names, found, expected, strict=True):
        one, other = one.detach(), other.detach()
        if name != "out":
            one, other = one[:, :, :real], other[:, :, :real]
        norm = float(other.norm())
        error = float((one.double() - other).norm()) / (norm if norm > 1e-9 * total else total)
        result[name] = error if math.isfinite(error) else float("inf")
    return result


def _reference(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float) -> Tensor:
    """Return the attention within each text by its definition, (1, real tokens, heads, size)."""
    start, outputs = 0, []
    for length in lengths:
        qs, ks, vs = (x[0, :, start : start + length] for x in (q, k, v))
        shares = (qs @ ks.mT * scale).softmax(-1)
        outputs.append((shares @ vs).transpose(0, 1))
        start += length
    return torch.cat(outputs)[None]


def _raw_limits() -> dict[str, str]:
    """Return for each head size whether `varlen_attn` works, or its error message."""
    from torch.nn.attention.varlen import varlen_attn

    found = {}
    offsets = torch.tensor([0, 5, 40], device="cuda", dtype=torch.int32)
    for size in (8, 16, 20, 26, 32, 64, 96, 128, 192, 256, 264):
        q, k, v = (
            torch.randn(40, HEADS, size, device="cuda", dtype=torch.bfloat16).requires_grad_()
            for _ in range(3)
        )
        try:
            out: Any = varlen_attn(q, k, v, offsets, offsets, 35, 35, scale=size**-0.5)
            torch.autograd.grad(out.float().sum(), (q, k, v))
            found[str(size)] = "works"
        except (RuntimeError, ValueError, TypeError) as error:
            found[str(size)] = str(error).strip().split("\n")[0][:200]
    return found


def _times(check: Check) -> dict[str, dict[str, float]]:
    """Return seconds of attention of one layer of BERT-base, forward and backward."""
    from rates import seconds_per_call

    found = {}
    for name, lengths in {
        "snli 8": [18, 20, 22, 24, 26, 28, 32, 38],
        "reviews 32": [512] * 6 + [64 + 14 * i for i in range(26)],
    }.items():
        packing = Packing(sorted(lengths), check.device)
        tokens = sum(lengths) + packing.spare
        q, k, v = (
            torch.randn(1, 12, tokens, 64, device="cuda", dtype=torch.bfloat16).requires_grad_()
            for _ in range(3)
        )

        def forward(
            q: Tensor = q, k: Tensor = k, v: Tensor = v, packing: Packing = packing
        ) -> Tensor:
            return packed_attention(nn.Identity(), q, k, v, None, 0.125, packing=packing)[0]

        d_out = torch.randn_like(forward())

        def both(
            q: Tensor = q,
            k: Tensor = k,
            v: Tensor = v,
            d_out: Tensor = d_out,
            forward: Any = forward,
        ) -> object:
            return torch.autograd.grad(forward(), (q, k, v), d_out)

        found[name] = {
            "forward": seconds_per_call(check, forward, 50),
            "forward and backward": seconds_per_call(check, both, 50),
        }
    return found
