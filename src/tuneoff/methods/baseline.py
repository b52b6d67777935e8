"""Nothing trains: the model as it comes, its head freshly drawn. What training has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.methods.base import Architecture, Method, NoConfig

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    """Freeze everything."""
    return model.requires_grad_(False)


BASELINE = Method(
    name="baseline",
    family="baseline",
    summary="nothing: the model as it comes",
    apply=apply,
    trains_head=False,
    limits="a model without a trained head for the labels at hand guesses at random",
)
