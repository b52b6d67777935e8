"""Every weight trains: plainly, or with the rare classes weighing more in the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.methods.base import Architecture, Method, NoConfig

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    """Train the whole encoder."""
    return model.requires_grad_(True)


FULL = Method(
    name="full",
    family="selective",
    summary="every weight of the encoder",
    learning_rate=5e-5,
    apply=apply,
    paper="Devlin et al. 2019, https://arxiv.org/abs/1810.04805",
)

WEIGHTED = Method(
    name="weighted",
    family="loss",
    summary="every weight of the encoder; classes weigh inversely to their frequency in the loss",
    learning_rate=5e-5,
    apply=apply,
    train={"class_weights": "balanced"},
    paper="King and Zeng 2001, Logistic Regression in Rare Events Data",
)
