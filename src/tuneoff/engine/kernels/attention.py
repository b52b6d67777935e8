"""Attention within the texts of a packed row: the one part of an encoder that must know them.

On CUDA it is PyTorch's varlen kernel. On a CPU both passes are plain products over the groups and
pieces of `packing.py`. In bf16, for 2 texts of 512 tokens on
a core with AVX512-BF16 (12 heads of 32), PyTorch's flash kernel takes 12 ms forward and 26 ms
backward, these take 7 and 10; for 16 texts of 32 tokens it is 0.8 and 9.7 ms against 0.8 and 0.7
(`benchmarks/attention.py`). In fp32 the flash kernel is the faster one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuneoff.engine.kernels.packing import Group, Packing

# Real scores exceed their log-sum-exp by its rounding alone, padded ones by far at times: what
# lies between, so that e to that power is finite.
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
    """Attention within each text of a packed row, in the form that Transformers asks for.

    `query`, `key`, `value` are (1, heads, tokens, size); the result is (1, tokens, heads, size). In
    the last layer the first tokens alone ask, and the others get zeros, which nobody reads.
    """
    # `x[0]` would copy the gradient twice: into a tensor of zeros, and back from its layout.
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    if module in packing.last:
        found = _of_first(q.index_select(0, packing.starts), k, v, packing, scale, dropout)
        out = q.new_zeros(q.shape).index_copy(0, packing.starts, found)
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
    """Attention of one query per text, (texts, heads, size), to all tokens of its text."""
    if dropout == 0 and _has_varlen(q):
        offsets = torch.arange(len(q) + 1, dtype=torch.int32, device=q.device)
        return _varlen(q, k, v, offsets, 1, packing, scale)
    outputs, text, spare = [], 0, len(q) - len(packing.lengths)
    for group in packing.groups:
        asking = q[text : text + group.texts, :, None]
        text += group.texts
        # Products of a single row would each be a kernel more, for every shape of a group.
        scores = (asking * _padded(k, group)).sum(-1, dtype=torch.float32) * scale
        if group.mask is not None:
            scores = scores.masked_fill(~group.mask[:, :, 0], -torch.inf)
        shares = F.dropout(scores.softmax(-1).to(q.dtype), dropout, dropout > 0)
        outputs.append((shares[..., None] * _padded(v, group)).sum(2))
    if spare:
        outputs.append(q.new_zeros(spare, *q.shape[1:]))
    return torch.cat(outputs)


def _has_varlen(x: Tensor) -> bool:
    """Whether `x` (tokens, heads, size) is on a GPU that runs FlashAttention (Ampere and newer), in
    a type and of a head size that it takes."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    return x.is_cuda and half and x.shape[-1] <= _MOST_SIZE and has_flash_attention(x.device)


def has_flash_attention(device: torch.device) -> bool:
    """Whether the CUDA `device` runs FlashAttention's kernels."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


# Of FlashAttention: head sizes up to this one, and multiples of the other alone.
_MOST_SIZE, _SIZE_STEP = 256, 8


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int, packing: Packing, scale: float
) -> Tensor:
    """Queries that begin at `offsets`, at most `longest` a text."""
    from torch.nn.attention.varlen import varlen_attn

    size = q.shape[-1]
    if missing := -size % _SIZE_STEP:  # zeros change neither scores nor the first `size` outputs
        q, k, v = (F.pad(x, (0, missing)) for x in (q, k, v))
    out = varlen_attn(q, k, v, offsets, packing.offsets, longest, packing.longest, scale=scale)
    assert isinstance(out, Tensor)  # a pair where the log-sum-exp is asked for, too
    return out[..., :size] if missing else out


def _by_groups(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float, dropout: float
) -> Tensor:
    """PyTorch's own attention and its gradients, group by group: in float32 the fastest on a CPU,
    and the only one with dropout."""
    outputs = []
    for group in packing.groups:
        qg, kg, vg = (_padded(x, group) for x in (q, k, v))
        out = F.scaled_dot_product_attention(qg, kg, vg, group.mask, dropout, scale=scale)
        outputs.append(_unpadded(out, group))
    if packing.spare:
        outputs.append(q.new_zeros(packing.spare, *q.shape[1:]))
    return torch.cat(outputs)


def _padded(x: Tensor, group: Group, slots: int | None = None) -> Tensor:
    """(tokens, heads, size) of the row to (texts, heads, longest, size), padded with zeros; with
    `slots` to so many."""
    slab, count = x[group.start : group.start + group.tokens], slots or group.texts
    if group.real is not None:
        places = slab.new_zeros(count * group.longest, *slab.shape[1:])
        slab = places.index_copy_(0, group.real, slab)
    elif count > group.texts:
        slab = F.pad(slab, (0, 0, 0, 0, 0, (count - group.texts) * group.longest))
    return slab.reshape(count, group.longest, *slab.shape[1:]).transpose(1, 2).contiguous()


def _unpadded(x: Tensor, group: Group) -> Tensor:
    """The inverse of `_padded`, to (tokens, heads, size)."""
    places = x.transpose(1, 2).flatten(0, 1)
    return places[: group.tokens] if group.real is None else places.index_select(0, group.real)


class _GroupedAttention(torch.autograd.Function):
    """Softmax attention per text on a CPU in half precision, the scores computed anew backwards.

    The gradients are those of Dao et al. 2022 (FlashAttention, appendix B): with the scores S =
    scale Q K^T, their row-wise log-sum-exp l, P = exp(S - l) and D = rowsum(dO * O), it is
    dV = P^T dO, dS = P * (dO V^T - D), dQ = scale dS K and dK = scale dS^T Q.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float
    ) -> Tensor:
        out, log_sum = q.new_zeros(q.shape), torch.zeros(*q.shape[:2], 1)
        kept, room = [], _room(packing, q)
        for group in packing.groups:
            qg, kg, vg = (_padded(x, group, group.slots) for x in (q, k, v))
            og, sums = _group_forward(qg, kg, vg, group, scale, room)
            rows = slice(group.start, group.start + group.tokens)
            out[rows], log_sum[rows] = _unpadded(og, group), _unpadded(sums, group)
            kept += [qg, kg, vg]
        ctx.save_for_backward(out, log_sum, *kept)
        ctx.packing, ctx.scale = packing, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        out, log_sum, *kept = ctx.saved_tensors
        # exp(S - l) is taken with l in the tensors' own type; the rest of l scales the gradient.
        rough = log_sum.to(out.dtype)
        d_out = (gradients[0] * (rough.float() - log_sum).exp()).to(out.dtype)
        d_row = (d_out * out).sum(-1, keepdim=True)
        results = tuple(torch.zeros_like(out) for _ in range(3))
        rooms = (_room(ctx.packing, out), _room(ctx.packing, out))
        for i, group in enumerate(ctx.packing.groups):
            qg, kg, vg = kept[3 * i : 3 * i + 3]
            dg, row, sums = (_padded(x, group, group.slots) for x in (d_out, d_row, rough))
            found = _group_backward(qg, kg, vg, dg, row, sums, group, ctx.scale, rooms)
            for result, gradient in zip(results, found, strict=True):
                rows = result[group.start : group.start + group.tokens]
                rows.copy_(_unpadded(gradient, group))
        return *results, None, None


def _room(packing: Packing, like: Tensor) -> Tensor:
    """Place for the scores of any piece: what was just used is still in the processor's cache."""
    heads = like.shape[1]
    most = (max(group.pieces) * group.longest**2 for group in packing.groups)
    return like.new_empty(max(most) * heads)


def _group_forward(
    q: Tensor, k: Tensor, v: Tensor, group: Group, scale: float, room: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention (slots, heads, longest, size) of one group and the float32 log-sum-exp of its
    scores (slots, heads, longest, 1); both mean nothing at padded places.

    The scores are computed twice: first to know each row's largest, then with it subtracted
    before they are rounded, so that the shares that count are nearly exact.
    """
    slots, heads, longest, size = q.shape
    flat = [x.view(slots * heads, longest, size) for x in (q, k, v)]
    out, log_sum = torch.empty_like(flat[0]), q.new_empty(len(flat[0]), longest, 1).float()
    text = 0
    for count in group.pieces:
        part = slice(text * heads, (text + count) * heads)
        qs, ks, vs = (x[part] for x in flat)
        p = room[: len(qs) * longest**2].view(-1, longest, longest)
        torch.baddbmm(p, qs, ks.mT, beta=0, alpha=scale, out=p)
        ends = p.view(count, heads, longest, longest)[..., group.shortest :]
        if group.hidden is not None:
            ends.masked_fill_(group.hidden[text : text + count], -torch.inf)
        most = _largest(p)
        torch.baddbmm(most, qs, ks.mT, beta=-1, alpha=scale, out=p)
        if group.hidden is not None:
            ends.masked_fill_(group.hidden[text : text + count], -torch.inf)
        p.exp_()
        total = p.sum(-1, keepdim=True)
        torch.bmm(p, vs, out=out[part]).div_(total)
        torch.add(most, total.float().log(), out=log_sum[part])
        text += count
    return out.view(q.shape), log_sum.view(*q.shape[:3], 1)


def _largest(x: Tensor) -> Tensor:
    """The largest of each row of bf16 or fp16 numbers, `x.amax(-1, keepdim=True)`.

    PyTorch compares half-precision numbers one at a time. Their bits, read as int16, order those
    of one sign, the negative ones backwards: a tenth of the time (512 x 512, 12 heads: 0.08 ms a
    reduction against 0.8 ms).
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
    rooms: tuple[Tensor, Tensor],
) -> tuple[Tensor, ...]:
    """Gradients of `q`, `k`, `v` (slots, heads, longest, size) of one group, from D and l of each
    row, (slots, heads, longest, 1).

    No mask is needed: padded places are zero in `k`, so that they add nothing to the gradient of
    `q`, and zero in `d_out`, so that they add nothing to those of `k` and `v`. Their score of 0
    may lie far above the real ones, though, and what is added must stay finite to be nothing.
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
        p, ds = (room[: len(qs) * longest**2].view(-1, longest, longest) for room in rooms)
        torch.baddbmm(sums, qs, ks.mT, beta=-1, alpha=scale, out=p)
        if group.shortest < longest:
            p[..., group.shortest :].clamp_(max=_MOST[p.dtype])
        p.exp_()
        torch.bmm(p.mT, dos, out=dv)
        torch.baddbmm(rows, dos, vs.mT, beta=-1, out=ds).mul_(p)
        torch.baddbmm(dq, ds, ks, beta=0, alpha=scale, out=dq)
        torch.baddbmm(dk, ds.mT, qs, beta=0, alpha=scale, out=dk)
    return tuple(x.view(q.shape) for x in results)
