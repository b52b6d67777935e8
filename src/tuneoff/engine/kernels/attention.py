"""Attention within the texts of a packed row, the only operation that depends on text boundaries.

On CUDA it is PyTorch's varlen kernel. On a CPU, the forward and the backward pass are plain matrix
products over the groups and pieces of `packing.py`. Times in bf16 on one core with AVX512-BF16,
with 12 heads of size 32 (`benchmarks/attention.py`):

- 2 texts of 512 tokens: 7 ms forward and 10 ms backward; PyTorch's flash kernel: 12 and 26 ms.
- 16 texts of 32 tokens: 0.8 ms forward and 0.7 ms backward; PyTorch's flash kernel: 0.8 and 9.7 ms.

In fp32 the flash kernel is faster.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuneoff.engine.kernels.packing import Group, Packing

# Upper bound of a score minus the log-sum-exp, so that its exponential is finite. Scores of real
# tokens exceed the log-sum-exp only by its rounding error; scores of padding may exceed it by far.
_MOST = {torch.float16: 10.0, torch.bfloat16: 60.0}


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    packing: Packing,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention within each text of a packed row, with the interface of Transformers.

    Args:
        module: The attention layer that calls this function.
        query: (1, heads, tokens, size).
        key: As `query`.
        value: As `query`.
        attention_mask: Ignored; `packing` has the boundaries of the texts.
        scaling: Factor of the scores; by default size ** -0.5.
        dropout: Dropout rate of the attention weights.
        packing: Layout of the packed row.

    Returns:
        The output (1, tokens, heads, size), and None in place of the attention weights. In the last
        layer, only the first token of each text is a query; the output at other positions is zero,
        and not used.
    """
    # `x[0]` would copy the gradient twice: into a tensor of zeros, and to change its layout.
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    if module in packing.last:
        first = _of_first(q.index_select(0, packing.starts), k, v, packing, scale, dropout)
        out = q.new_zeros(q.shape).index_copy(0, packing.starts, first)
    elif dropout == 0 and _has_varlen(q):
        out = _varlen(q, k, v, packing.offsets, packing.longest, packing, scale)
    elif dropout == 0 and q.device.type == "cpu" and q.dtype != torch.float32:
        out = _GroupedAttention.apply(q, k, v, packing, scale)  # type: ignore[no-untyped-call]
    else:
        out = _by_groups(q, k, v, packing, scale, dropout)
    return out.unsqueeze(0), None


def _of_first(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, dropout: float
) -> Tensor:
    """Compute attention of one query per text, (texts, heads, size), to all tokens of its text."""
    if dropout == 0 and _has_varlen(q):
        offsets = torch.arange(len(q) + 1, dtype=torch.int32, device=q.device)
        return _varlen(q, k, v, offsets, 1, packing, scale)
    outputs, text, unused = [], 0, len(q) - len(packing.lengths)
    for group in packing.groups:
        queries = q[text : text + group.texts, :, None]
        text += group.texts
        # For matrix products with a single row, oneDNN would build a kernel per shape of a group.
        scores = (queries * _padded(k, group)).sum(-1, dtype=torch.float32) * scale
        if group.mask is not None:
            scores = scores.masked_fill(~group.mask[:, :, 0], -torch.inf)
        weights = F.dropout(scores.softmax(-1).to(q.dtype), dropout, dropout > 0)
        outputs.append((weights[..., None] * _padded(v, group)).sum(2))
    if unused:
        outputs.append(q.new_zeros(unused, *q.shape[1:]))
    return torch.cat(outputs)


def _has_varlen(x: Tensor) -> bool:
    """Return whether FlashAttention supports the GPU, type and head size of `x`.

    `x` is (tokens, heads, size). The GPU must be of the Ampere generation or newer.
    """
    half = x.dtype in (torch.float16, torch.bfloat16)
    return x.is_cuda and half and x.shape[-1] <= _MOST_SIZE and has_flash_attention(x.device)


def has_flash_attention(device: torch.device) -> bool:
    """Return whether the CUDA `device` supports FlashAttention's kernels."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


# FlashAttention supports head sizes up to the first number that are multiples of the second.
_MOST_SIZE, _SIZE_STEP = 256, 8


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int, packing: Packing, scale: float
) -> Tensor:
    """Compute attention with PyTorch's varlen kernel.

    `offsets` has the start of each text's queries; a text has at most `longest` queries.
    """
    from torch.nn.attention.varlen import varlen_attn

    size = q.shape[-1]
    if missing := -size % _SIZE_STEP:  # zeros change neither scores nor the first `size` outputs
        q, k, v = (F.pad(x, (0, missing)) for x in (q, k, v))
    out = varlen_attn(q, k, v, offsets, packing.offsets, longest, packing.longest, scale=scale)
    assert isinstance(out, Tensor)  # a tuple only if the log-sum-exp is requested
    return out[..., :size] if missing else out


def _by_groups(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, dropout: float
) -> Tensor:
    """Compute attention with PyTorch's own operation, group by group.

    In float32 this is the fastest variant on a CPU, and it is the only one with dropout.
    """
    outputs = []
    for group in packing.groups:
        qg, kg, vg = (_padded(x, group) for x in (q, k, v))
        out = F.scaled_dot_product_attention(qg, kg, vg, group.mask, dropout, scale=scale)
        outputs.append(_unpadded(out, group))
    if packing.spare:
        outputs.append(q.new_zeros(packing.spare, *q.shape[1:]))
    return torch.cat(outputs)


def _padded(x: Tensor, group: Group, slots: int | None = None) -> Tensor:
    """Pad a group's part of the row (tokens, heads, size) to (texts, heads, longest, size).

    Padding is zero. With `slots`, the first dimension is padded to `slots` as well.
    """
    rows, count = x[group.start : group.start + group.tokens], slots or group.texts
    if group.real is not None:
        padded = rows.new_zeros(count * group.longest, *rows.shape[1:])
        rows = padded.index_copy_(0, group.real, rows)
    elif count > group.texts:
        rows = F.pad(rows, (0, 0, 0, 0, 0, (count - group.texts) * group.longest))
    return rows.reshape(count, group.longest, *rows.shape[1:]).transpose(1, 2).contiguous()


def _unpadded(x: Tensor, group: Group) -> Tensor:
    """Return (tokens, heads, size) from the result of `_padded`."""
    rows = x.transpose(1, 2).flatten(0, 1)
    return rows[: group.tokens] if group.real is None else rows.index_select(0, group.real)


class _GroupedAttention(torch.autograd.Function):
    """Softmax attention per text in half precision on a CPU.

    The backward pass recomputes the scores. The gradients are those of Dao et al. 2022
    (FlashAttention, appendix B): with the scores S = scale Q K^T, their row-wise log-sum-exp l,
    P = exp(S - l) and D = rowsum(dO * O), they are dV = P^T dO, dS = P * (dO V^T - D),
    dQ = scale dS K and dK = scale dS^T Q.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float
    ) -> Tensor:
        out, log_sum = q.new_zeros(q.shape), torch.zeros(*q.shape[:2], 1)
        saved, buffer = [], _room(packing, q)
        for group in packing.groups:
            qg, kg, vg = (_padded(x, group, group.slots) for x in (q, k, v))
            og, sums = _group_forward(qg, kg, vg, group, scale, buffer)
            rows = slice(group.start, group.start + group.tokens)
            out[rows], log_sum[rows] = _unpadded(og, group), _unpadded(sums, group)
            saved += [qg, kg, vg]
        ctx.save_for_backward(out, log_sum, *saved)
        ctx.packing, ctx.scale = packing, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        out, log_sum, *saved = ctx.saved_tensors
        # exp(S - l) is computed with l rounded to the type of the tensors. The rounding error of l
        # is corrected by scaling the gradient.
        rough = log_sum.to(out.dtype)
        d_out = (gradients[0] * (rough.float() - log_sum).exp()).to(out.dtype)
        d_row = (d_out * out).sum(-1, keepdim=True)
        results = tuple(torch.zeros_like(out) for _ in range(3))
        buffers = (_room(ctx.packing, out), _room(ctx.packing, out))
        for i, group in enumerate(ctx.packing.groups):
            qg, kg, vg = saved[3 * i : 3 * i + 3]
            dg, row, sums = (_padded(x, group, group.slots) for x in (d_out, d_row, rough))
            group_gradients = _group_backward(qg, kg, vg, dg, row, sums, group, ctx.scale, buffers)
            for result, gradient in zip(results, group_gradients, strict=True):
                rows = result[group.start : group.start + group.tokens]
                rows.copy_(_unpadded(gradient, group))
        return *results, None, None


def _room(packing: Packing, like: Tensor) -> Tensor:
    """Allocate a buffer for the scores of the largest piece.

    All pieces use the same buffer, so that it stays in the processor's cache.
    """
    heads = like.shape[1]
    sizes = (max(group.pieces) * group.longest**2 for group in packing.groups)
    return like.new_empty(max(sizes) * heads)


def _group_forward(
    q: Tensor, k: Tensor, v: Tensor, group: Group, scale: float, buffer: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute attention of one group, and the log-sum-exp of its scores.

    The scores are computed twice: first to find the maximum of each row, then with this maximum
    subtracted before they are rounded, so that the large attention weights are nearly exact.

    Returns:
        The output (slots, heads, longest, size) and the float32 log-sum-exp (slots, heads, longest,
        1). Both are undefined at padding.
    """
    slots, heads, longest, size = q.shape
    flat = [x.view(slots * heads, longest, size) for x in (q, k, v)]
    out, log_sum = torch.empty_like(flat[0]), q.new_empty(len(flat[0]), longest, 1).float()
    text = 0
    for count in group.pieces:
        part = slice(text * heads, (text + count) * heads)
        qs, ks, vs = (x[part] for x in flat)
        p = buffer[: len(qs) * longest**2].view(-1, longest, longest)
        torch.baddbmm(p, qs, ks.mT, beta=0, alpha=scale, out=p)
        ends = p.view(count, heads, longest, longest)[..., group.shortest :]
        if group.hidden is not None:
            ends.masked_fill_(group.hidden[text : text + count], -torch.inf)
        maximum = _largest(p)
        torch.baddbmm(maximum, qs, ks.mT, beta=-1, alpha=scale, out=p)
        if group.hidden is not None:
            ends.masked_fill_(group.hidden[text : text + count], -torch.inf)
        p.exp_()
        total = p.sum(-1, keepdim=True)
        torch.bmm(p, vs, out=out[part]).div_(total)
        torch.add(maximum, total.float().log(), out=log_sum[part])
        text += count
    return out.view(q.shape), log_sum.view(*q.shape[:3], 1)


def _largest(x: Tensor) -> Tensor:
    """Return the maximum of each row of a bf16 or fp16 tensor, `x.amax(-1, keepdim=True)`.

    PyTorch compares half-precision numbers one at a time. Read as int16, numbers of one sign have
    the same order, negative ones in reverse. This takes a tenth of the time: 0.08 ms per reduction
    instead of 0.8 ms (512 x 512, 12 heads).
    """
    bits = x.view(torch.int16)
    positive, negative = bits.amax(-1, keepdim=True), bits.amin(-1, keepdim=True)
    return torch.where(positive >= 0, positive, negative).view(x.dtype)


def _group_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    d_out: Tensor,
    d_row: Tensor,
    log_sum: Tensor,
    group: Group,
    scale: float,
    buffers: tuple[Tensor, Tensor],
) -> tuple[Tensor, ...]:
    """Compute the gradients of `q`, `k` and `v` (slots, heads, longest, size) of one group.

    `d_row` and `log_sum` are D and l of each row (see `_GroupedAttention`), each (slots, heads,
    longest, 1).

    No mask is needed. Padding is zero in `k`, so it adds nothing to the gradient of `q`, and zero
    in `d_out`, so it adds nothing to those of `k` and `v`. But its score of 0 may be far above the
    real scores, so the exponential is clamped: zero times infinity would be NaN.
    """
    slots, heads, longest, _ = q.shape
    flat = [x.view(slots * heads, longest, -1) for x in (q, k, v, d_out, d_row, log_sum)]
    results = tuple(torch.empty_like(x) for x in flat[:3])
    start = 0
    for count in group.pieces:
        part = slice(start, start + count * heads)
        start = part.stop
        qs, ks, vs, dos, rows, sums = (x[part] for x in flat)
        dq, dk, dv = (x[part] for x in results)
        p, ds = (buffer[: len(qs) * longest**2].view(-1, longest, longest) for buffer in buffers)
        torch.baddbmm(sums, qs, ks.mT, beta=-1, alpha=scale, out=p)
        if group.shortest < longest:
            p[..., group.shortest :].clamp_(max=_MOST[p.dtype])
        p.exp_()
        torch.bmm(p.mT, dos, out=dv)
        torch.baddbmm(rows, dos, vs.mT, beta=-1, out=ds).mul_(p)
        torch.baddbmm(dq, ds, ks, beta=0, alpha=scale, out=dq)
        torch.baddbmm(dk, ds.mT, qs, beta=0, alpha=scale, out=dk)
    return tuple(x.view(q.shape) for x in results)
