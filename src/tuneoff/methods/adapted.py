"""What all methods that PEFT builds have in common: the head beside the adapter, and the types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.methods.base import Architecture

if TYPE_CHECKING:
    from torch import nn


def attach(model: nn.Module, architecture: Architecture, peft_config: Any) -> nn.Module:
    """`model` with the adapter of `peft_config` in it, its body frozen and its head saved along.

    PEFT trains a copy of each head module and keeps the original; only the copy counts, trains and
    is saved. Adapter weights take the type of the body they stand beside: PEFT's default would
    cast the input of every adapted layer to float32 and back.
    """
    import peft

    # PEFT matches by the end of a name: `pooler` for `bert.pooler`.
    peft_config.modules_to_save = sorted({name.rsplit(".", 1)[-1] for name in architecture.head})
    adapted: nn.Module = peft.get_peft_model(model, peft_config, autocast_adapter_dtype=False)
    return adapted
