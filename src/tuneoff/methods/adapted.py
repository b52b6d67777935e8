"""Attachment of PEFT adapters, common to all methods that PEFT implements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.methods.base import Architecture

if TYPE_CHECKING:
    from torch import nn


def attach(model: nn.Module, architecture: Architecture, peft_config: Any) -> nn.Module:
    """Return `model` with the adapter of `peft_config`, a frozen body, and a head that is saved.

    PEFT trains a copy of each head module and keeps the original; only the copy is counted, trained
    and saved. Adapter weights have the dtype of the body: PEFT's default would cast the input of
    every adapted layer to float32 and back.
    """
    import peft

    # PEFT matches the end of a module name: `pooler` for `bert.pooler`.
    peft_config.modules_to_save = sorted({name.rsplit(".", 1)[-1] for name in architecture.head})
    adapted: nn.Module = peft.get_peft_model(model, peft_config, autocast_adapter_dtype=False)
    return adapted
