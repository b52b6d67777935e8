"""Only the head trains; the encoder stays as it was pretrained (a linear probe)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.methods.base import Architecture, Method, NoConfig

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    """Freeze the whole encoder; whether the head trains is the engine's to set."""
    return model.requires_grad_(False)


HEAD = Method(
    name="head",
    family="selective",
    summary="the head alone",
    learning_rate=1e-3,
    apply=apply,
    paper="Alain and Bengio 2016, https://arxiv.org/abs/1610.01644",
)
