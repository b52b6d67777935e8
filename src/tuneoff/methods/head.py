"""Linear probe: only the head is trained, the encoder stays frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.methods.base import Architecture, Method, NoConfig

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    """Freeze the whole encoder. The engine sets whether the head is trainable."""
    return model.requires_grad_(False)


HEAD = Method(
    name="head",
    family="selective",
    summary="the classification head only",
    learning_rate=1e-3,
    apply=apply,
    paper="Alain and Bengio 2016, https://arxiv.org/abs/1610.01644",
)
