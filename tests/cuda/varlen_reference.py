"""Reference implementation of `torch.nn.attention.varlen.varlen_attn`, for `stand_in`.

It checks the kernel's conditions, and leaves the same rows undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from stand_in import CudaStandIn, on_card, one_kernel
from torch import Tensor


def varlen(card: CudaStandIn) -> Callable[..., Tensor]:
    """Return `varlen_attn` for the simulated device `card`."""

    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None = None,
    ) -> Tensor:
        if card.capability < (8, 0):
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
        inputs = (query, key, value)
        for x in (*inputs, cu_seq_q, cu_seq_k):
            if not on_card(x):
                raise RuntimeError("varlen_attn: all inputs must be on the GPU")
        if {x.dtype for x in inputs} - {torch.float16, torch.bfloat16} or key.dtype != query.dtype:
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        if not cu_seq_q.dtype == cu_seq_k.dtype == torch.int32:
            raise RuntimeError("cu_seqlens must have dtype int32")
        if not (cu_seq_q.is_contiguous() and cu_seq_k.is_contiguous()):
            raise RuntimeError("cu_seqlens must be contiguous")
        if any(x.ndim != 3 or x.stride(-1) != 1 for x in inputs):
            raise RuntimeError("Input tensor must have contiguous last dimension")
        if query.shape[-1] % 8 or query.shape[-1] > 256:
            raise RuntimeError("head_size should be a multiple of 8 and at most 256")
        if not isinstance(max_q, int) or not isinstance(max_k, int):
            raise TypeError("max_q and max_k are numbers of the host")
        found: Tensor = _VarlenReference.apply(
            *inputs, cu_seq_q, cu_seq_k, max_q, max_k, scale, card
        )
        return found

    return varlen_attn


class _VarlenReference(torch.autograd.Function):
    """Attention of each text in float32; rows outside of all texts are NaN in all results."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *more: Any) -> Tensor:
        cu_q, cu_k, max_q, max_k, scale, card = more
        with one_kernel(card, "varlen_attn"):
            out = torch.full_like(q, torch.nan)
            for rows, keys in _texts(cu_q, cu_k, max_q, max_k):
                out[rows] = _attention(q[rows], k[keys], v[keys], scale)
        card.allocate(out.untyped_storage())
        ctx.save_for_backward(q, k, v, cu_q, cu_k)
        ctx.more = max_q, max_k, scale, card
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, cu_q, cu_k = ctx.saved_tensors
        max_q, max_k, scale, card = ctx.more
        with one_kernel(card, "varlen_attn_backward"):
            results = [torch.full_like(x, torch.nan) for x in (q, k, v)]
            for rows, keys in _texts(cu_q, cu_k, max_q, max_k):
                with torch.enable_grad():
                    parts = [x.detach().requires_grad_() for x in (q[rows], k[keys], v[keys])]
                    out = _attention(*parts, scale)
                found = torch.autograd.grad(out, parts, gradients[0][rows])
                for result, place, gradient in zip(results, (rows, keys, keys), found, strict=True):
                    result[place] = gradient
        for result in results:
            card.allocate(result.untyped_storage())
        return *results, None, None, None, None, None, None


def _texts(cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int) -> Iterator[tuple[slice, slice]]:
    ends_q, ends_k = cu_q.tolist(), cu_k.tolist()
    for i in range(len(ends_q) - 1):
        rows, keys = slice(ends_q[i], ends_q[i + 1]), slice(ends_k[i], ends_k[i + 1])
        if rows.stop - rows.start > max_q or keys.stop - keys.start > max_k:
            raise RuntimeError("varlen_attn: a text is longer than max_q or max_k")
        yield rows, keys


def _attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """Return the attention of one text, (tokens, heads, size)."""
    by_head = [x.float().transpose(0, 1)[None] for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*by_head, scale=scale)
    return out[0].transpose(0, 1).to(q.dtype)
