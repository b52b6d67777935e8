"""Full fine-tuning, without or with class weights in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tuneoff.methods.base import Architecture, Method, ParamGroup
from tuneoff.methods.search_ranges import Span

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class FullConfig:
    """Settings of full fine-tuning.

    `layer_decay` is the ratio of the learning rate of a layer to that of the layer above (Clark et
    al. 2020). With `unfreeze: gradual`, training starts with the head only and unfreezes one layer
    after another, from the top down, at equal intervals (Howard and Ruder 2018).
    """

    layer_decay: Annotated[float, Span(0.7, 1.0)] = 1.0
    unfreeze: Literal["at once", "gradual"] = "at once"

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ValueError("layer_decay must lie in (0, 1]")


def apply(model: nn.Module, architecture: Architecture, config: FullConfig) -> nn.Module:
    """Train the whole encoder."""
    return model.requires_grad_(True)


def param_group(name: str, architecture: Architecture, config: FullConfig) -> ParamGroup:
    """Return how a weight is trained, depending on the number of layers between it and the head.

    Embeddings are below all layers.
    """
    depth, layer = len(architecture.layers), architecture.layer_of(name)
    below = depth - layer if layer is not None else _outside(name, architecture) * (depth + 1)
    start = below / (depth + 2) if config.unfreeze == "gradual" else 0.0
    return ParamGroup(rate=config.layer_decay**below, start=start)


def _outside(name: str, architecture: Architecture) -> bool:
    """Return whether a weight outside of the layers is below them; a final norm is above."""
    return any(f".{part}." in f".{name}" for part in architecture.embeddings)


FULL = Method(
    name="full",
    family="selective",
    summary="every weight of the encoder",
    config=FullConfig,
    learning_rate=5e-5,
    apply=apply,
    param_group=param_group,
    paper="Devlin et al. 2019, https://arxiv.org/abs/1810.04805",
)

WEIGHTED = Method(
    name="weighted",
    family="loss",
    summary="every weight of the encoder; the loss weights classes inversely to their frequency",
    config=FullConfig,
    learning_rate=5e-5,
    apply=apply,
    param_group=param_group,
    train={"class_weights": "balanced"},
    paper="King and Zeng 2001, Logistic Regression in Rare Events Data",
)
