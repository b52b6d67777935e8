"""The forward pass without padding: one row of real tokens, and attention that knows its texts.

Transformers' own layers run on a row (1, tokens, hidden) into which all texts of a batch are
joined. Everything but attention treats tokens one by one, so only attention must be told where
texts end: a function registered under the name `PACKED` gets the batch's `Packing` through the
keyword arguments that the layers hand down. No mask is built: Transformers would build it without
the texts' borders and mix them silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tuneoff.model.architecture import EncoderArchitecture

if TYPE_CHECKING:
    from tuneoff.data.batches import Batch

PACKED = "tuneoff_packed"

# Measured on 2 cores with AVX512-BF16, heads of 32: below about 64 tokens plain batched products
# beat the flash kernel (16 texts of 25 tokens, forward and backward: 1.8 ms against 9.1 ms), above
# it the kernel wins (16 texts of 230: 63 ms against 104 ms).
_FLASH_FROM = 64

# A new length group costs about as much as this many query-key pairs of padding.
_GROUP_COST = 5_000


@dataclass(frozen=True)
class Group:
    """Texts `[first, first + texts)` of a packed row, attended to together, padded to `longest`."""

    start: int
    """First token of the group in the row."""
    tokens: int
    texts: int
    longest: int
    gather: Tensor | None
    """(texts * longest,) index of each padded place into the group's tokens; None: no padding."""
    real: Tensor | None
    """(tokens,) index of each token into the padded places."""
    mask: Tensor | None
    """(texts, 1, 1, longest), True at real tokens."""


class Packing:
    """Where the texts of a packed row lie, and in which groups attention takes them.

    Groups are runs of neighbours, so texts should stand in order of their lengths.
    """

    def __init__(self, lengths: list[int], device: torch.device) -> None:
        self.lengths = lengths
        self.device = device

    @cached_property
    def groups(self) -> list[Group]:
        """For attention by padded groups (CPU, and wherever there is no varlen kernel)."""
        groups: list[Group] = []
        start = 0
        for run in _runs(self.lengths):
            groups.append(_group(start, run, self.device))
            start += sum(run)
        return groups

    @cached_property
    def offsets(self) -> Tensor:
        """(texts + 1,) int32 cumulative lengths, as the varlen kernel takes them."""
        return torch.tensor([0, *self.lengths], device=self.device).cumsum(0, dtype=torch.int32)

    @cached_property
    def starts(self) -> Tensor:
        """(texts,) the first token of each text."""
        return self.offsets[:-1].long()


def _runs(lengths: list[int]) -> list[list[int]]:
    """Neighbouring lengths in groups, so that padding costs no more than another group would."""
    runs: list[list[int]] = []
    for length in lengths:
        if runs:
            longest = max(*runs[-1], length)
            waste = sum(longest**2 - n**2 for n in (*runs[-1], length))
            if waste <= _GROUP_COST:
                runs[-1].append(length)
                continue
        runs.append([length])
    return runs


def _group(start: int, lengths: list[int], device: torch.device) -> Group:
    tokens, longest = sum(lengths), max(lengths)
    if tokens == len(lengths) * longest:
        return Group(start, tokens, len(lengths), longest, None, None, None)
    sizes = torch.tensor(lengths)
    mask = torch.arange(longest) < sizes[:, None]
    real = mask.flatten().nonzero().flatten()
    # Padded places repeat the group's first token: finite, and masked as keys.
    gather = torch.zeros(len(lengths) * longest, dtype=torch.long)
    gather[real] = torch.arange(tokens)
    return Group(
        start,
        tokens,
        len(lengths),
        longest,
        gather.to(device),
        real.to(device),
        mask[:, None, None, :].to(device),
    )


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
    """Attention within each text of a packed row.

    `query`, `key`, `value` are (1, heads, tokens, head size); the result is (1, tokens, heads,
    head size), as Transformers' attention functions return it.
    """
    if query.is_cuda and dropout == 0 and query.dtype != torch.float32:
        return _varlen(query, key, value, packing, scaling), None
    outputs = []
    for group in packing.groups:
        q, k, v = (_take(x, group) for x in (query, key, value))
        if dropout == 0 and group.longest >= _FLASH_FROM:
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=group.mask, scale=scaling)
        else:
            o = _plain(q, k, v, group.mask, scaling, dropout)
        o = o.transpose(1, 2).flatten(0, 1)
        outputs.append(o if group.real is None else o.index_select(0, group.real))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).unsqueeze(0), None


def _take(x: Tensor, group: Group) -> Tensor:
    """(1, heads, tokens, size) of the row to (texts, heads, longest, size) of the group."""
    slab = x[0, :, group.start : group.start + group.tokens].transpose(0, 1)
    if group.gather is not None:
        slab = slab.index_select(0, group.gather)
    return slab.view(group.texts, group.longest, *slab.shape[1:]).transpose(1, 2)


def _plain(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None, dropout: float
) -> Tensor:
    scores = (q * (q.shape[-1] ** -0.5 if scaling is None else scaling)) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return F.dropout(scores.softmax(-1), dropout) @ v


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    longest = max(packing.lengths)
    offsets = packing.offsets
    out: Any = varlen_attn(q, k, v, offsets, offsets, longest, longest, scale=scaling)
    return out.unsqueeze(0)  # type: ignore[no-any-return]


def register() -> None:
    """Make `PACKED` known to Transformers, with a mask builder that builds none."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


class Classifier(nn.Module):
    """A classification model that takes `Batch`es: packed where its family can be, else padded."""

    def __init__(self, model: nn.Module, architecture: EncoderArchitecture) -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture
        inner = unwrapped(model)
        self.packs = architecture.packed_head is not None
        if self.packs:
            register()
            inner.config._attn_implementation = PACKED
        # The head computes in float32: it is a thousandth of the work, and logits rounded to bf16
        # tie where they should rank.
        for name in architecture.head:
            inner.get_submodule(name).register_forward_pre_hook(_to_float32)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (texts, labels) in float32, in the order of the batch's texts."""
        return self._packed(batch) if self.packs else self._padded(batch)

    def _packed(self, batch: Batch) -> Tensor:
        assert self.architecture.packed_head is not None
        inner = unwrapped(self.model)
        packing = Packing(batch.lengths, batch.input_ids.device)
        inputs = {
            "input_ids": batch.input_ids[None],
            "position_ids": batch.position_ids[None] + self.architecture.first_position,
        }
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids[None]
        states = inner.get_submodule(self.architecture.body)(**inputs, packing=packing)[0][0]
        first = states.index_select(0, packing.starts)[:, None]
        return self.architecture.packed_head(inner, first).float()

    def _padded(self, batch: Batch) -> Tensor:
        config = unwrapped(self.model).config
        pad = config.pad_token_id or 0
        inputs = {
            "input_ids": _pad(batch.input_ids, batch.lengths, pad),
            "attention_mask": _pad(torch.ones_like(batch.input_ids), batch.lengths, 0),
        }
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = _pad(batch.token_type_ids, batch.lengths, 0)
        logits: Tensor = self.model(**inputs).logits
        return logits.float()


def _pad(row: Tensor, lengths: list[int], value: int) -> Tensor:
    return pad_sequence(list(row.split(lengths)), batch_first=True, padding_value=value)


def _to_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
    )


def unwrapped(model: nn.Module) -> Any:
    """The Transformers model inside a PEFT wrapper, or the model itself."""
    base = getattr(model, "base_model", None)
    return base.model if base is not None and hasattr(base, "inject_adapter") else model
