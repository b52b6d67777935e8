"""Padding of texts of different lengths, so that the logits of a text do not depend on the others.

For most model families, padding on the right is correct. XLNet reads the last position and needs
padding on the left. In some families padding affects the texts on either side (FNet has no
attention mask; ConvBERT's convolutions, Funnel's pooling and MobileBERT's neighbouring tokens
ignore it), so only texts of equal length can share a forward pass. A forward pass with a few random
tokens determines which is the case, so no list of families is needed.
"""

from __future__ import annotations

from inspect import signature
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tuneoff.results.record import LogitDifference

if TYPE_CHECKING:
    from tuneoff.engine.data.batches import Batch

Padding = Literal["right", "left", "none"]
"""Side of the padding; "none": only texts of equal length share a batch."""

SAME = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 0.1}
"""Maximum difference of logits, in standard deviations, that counts as equal when the padding is
chosen. In float32 it is a hundred times the effect of rounding, but still small, because training
may amplify a dependence."""

TOLERANCE = {"fp32": 2e-3, "fp16": 3e-2, "bf16": 0.25}
"""Maximum difference of two logits, in standard deviations of all logits, that rounding in this
type can cause, accumulated over the layers. A model that lost its head or its adapter differs by 1
or more."""

LENGTHS = (5, 9, 24)
"""Numbers of tokens of the texts that are used to choose the padding."""


@torch.no_grad()
def find_padding(model: nn.Module, inner: Any, tolerance: float) -> Padding:
    """Return a padding with which a text has the same logits alone and in a batch of longer texts.

    Args:
        model: A Transformers model with a classification head, with or without an adapter.
        inner: The same model without the wrapper of an adapter.
        tolerance: Maximum difference that counts as equal, as in `TOLERANCE`.

    Returns:
        The first of "right", "left" and "none" that meets this condition.
    """
    table = inner.get_input_embeddings()
    if "attention_mask" not in _parameters(inner) or not isinstance(table, nn.Embedding):
        return "none"
    texts = _random_texts(inner.config, table)
    pad_token_id = inner.config.pad_token_id or 0
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        alone = torch.cat([model(**_padded([ids], pad_token_id, "right")).logits for ids in texts])
        for side in ("right", "left"):
            mixed = model(**_padded(texts, pad_token_id, side)).logits
            if LogitDifference.between(mixed.float(), alone.float(), tolerance).passed:
                return side
    finally:
        for module, was_training in training:
            module.training = was_training
    return "none"


def _random_texts(config: Any, table: nn.Embedding) -> list[Tensor]:
    """Return texts of random non-special tokens, one per length in `LENGTHS`.

    Each ends with the end-of-text token if the model has one, because BART's head reads it.
    """
    special = {v for k, v in config.to_dict().items() if k.endswith("token_id") and type(v) is int}
    plain = [i for i in range(min(table.num_embeddings, 1000)) if i not in special] or [0]
    generator = torch.Generator().manual_seed(0)
    last = config.eos_token_id
    end = [last] if isinstance(last, int) and 0 <= last < table.num_embeddings else []
    device = table.weight.device
    texts = []
    for length in LENGTHS:
        drawn = torch.randint(len(plain), (length - len(end),), generator=generator).tolist()
        texts.append(torch.tensor([*(plain[i] for i in drawn), *end], device=device))
    return texts


def _padded(texts: list[Tensor], pad_token_id: int, side: Literal["right", "left"]) -> Any:
    return {
        "input_ids": _pad(texts, pad_token_id, side),
        "attention_mask": _pad([torch.ones_like(ids) for ids in texts], 0, side),
    }


def padded_inputs(inner: Any, batch: Batch, padding: Padding) -> list[dict[str, Tensor]]:
    """Return the padded inputs of a Transformers model, in the order of the texts.

    Args:
        inner: The Transformers model.
        batch: Texts in a packed row.
        padding: Side of the padding.

    Returns:
        Keyword arguments with tensors of shape (texts, longest). This is one dictionary for the
        whole batch, or with the padding "none" one for each sequence of texts of equal length.
    """
    ids = batch.input_ids[: batch.tokens]  # on a GPU the row has spare positions at its end
    columns = {"input_ids": (ids, inner.config.pad_token_id or 0)}
    if "attention_mask" in _parameters(inner):
        columns["attention_mask"] = (torch.ones_like(ids), 0)
    if batch.token_type_ids is not None:
        columns["token_type_ids"] = (batch.token_type_ids[: batch.tokens], 0)
    if padding != "none":
        return [
            {
                name: _pad(list(row.split(batch.lengths)), value, padding)
                for name, (row, value) in columns.items()
            }
        ]
    inputs, start = [], 0
    for length, texts in _runs(batch.lengths):
        part = slice(start, start + length * texts)
        inputs.append({n: row[part].view(texts, length) for n, (row, _) in columns.items()})
        start = part.stop
    return inputs


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """Return the length and the number of texts of each sequence of texts of equal length."""
    return [(length, len(list(run))) for length, run in groupby(lengths)]


def _pad(texts: list[Tensor], value: int, side: Literal["right", "left"]) -> Tensor:
    return pad_sequence(texts, batch_first=True, padding_value=value, padding_side=side)


def _parameters(inner: nn.Module) -> Any:
    return signature(inner.forward).parameters
