"""The forward pass without padding: one row of real tokens, and attention that knows its texts.

Transformers' own layers run on a row (1, tokens, hidden) into which all texts of a batch are
joined. Everything but attention treats tokens one by one, so only attention must be told where
texts end: `attention.packed_attention`, registered under the name `PACKED`, gets the batch's
`Packing` through the keyword arguments that the layers hand down. No mask is built: Transformers
would build it without the texts' borders and mix them silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tuneoff.model.architecture import EncoderArchitecture
from tuneoff.model.attention import Packing, packed_attention

if TYPE_CHECKING:
    from tuneoff.data.batches import Batch

PACKED = "tuneoff_packed"


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
        # PEFT puts virtual tokens before a padded batch; a packed row never meets its code.
        self.packs = architecture.packed_head is not None and not has_virtual_tokens(model)
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
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids + self.architecture.first_position,
        }
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        inputs = {name: F.pad(x, (0, packing.spare))[None] for name, x in inputs.items()}
        states = inner.get_submodule(self.architecture.body)(**inputs, packing=packing)[0][0]
        first = states.index_select(0, packing.starts)[:, None]
        return self.architecture.packed_head(inner, first).float()

    def _padded(self, batch: Batch) -> Tensor:
        inputs = padded_inputs(batch, unwrapped(self.model).config.pad_token_id)
        logits: Tensor = self.model(**inputs).logits
        return logits.float()


def padded_inputs(batch: Batch, pad_token_id: int | None) -> dict[str, Tensor]:
    """What Transformers' models take: (texts, longest) each, padded on the right."""
    inputs = {
        "input_ids": _pad(batch.input_ids, batch.lengths, pad_token_id or 0),
        "attention_mask": _pad(torch.ones_like(batch.input_ids), batch.lengths, 0),
    }
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = _pad(batch.token_type_ids, batch.lengths, 0)
    return inputs


def _pad(row: Tensor, lengths: list[int], value: int) -> Tensor:
    return pad_sequence(list(row.split(lengths)), batch_first=True, padding_value=value)


def _to_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
    )


def unwrapped(model: nn.Module) -> Any:
    """The Transformers model inside a PEFT wrapper, or the model itself."""
    if not hasattr(model, "peft_config"):
        return model
    base: Any = model.base_model
    return base.model if hasattr(base, "inject_adapter") else base


def has_virtual_tokens(model: nn.Module) -> bool:
    """Whether PEFT puts virtual tokens before each text of `model`."""
    configs = getattr(model, "peft_config", {}).values()
    return any(config.is_prompt_learning for config in configs)
