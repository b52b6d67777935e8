"""The last k layers of the encoder train, those below stay as they were pretrained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tuneoff.exceptions import BadInput
from tuneoff.methods.base import Architecture, Method
from tuneoff.methods.search_ranges import Span
from tuneoff.methods.targets import described

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class PartialConfig:
    """`k`: how many of the last layers train; `embeddings`: whether those train, too."""

    k: Annotated[int, Span(1, 4, whole=True)] = 2
    embeddings: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(
                "k must be at least 1 (to train the head alone, take the method 'head')"
            )


def apply(model: nn.Module, architecture: Architecture, config: PartialConfig) -> nn.Module:
    """Train the last `k` layers; `BadInput` if the encoder has fewer."""
    if config.k > len(architecture.layers):
        raise BadInput(
            f"k is {config.k}, but {described(architecture)}",
            hint="Set k lower, or take the method 'full'.",
        )
    model.requires_grad_(False)
    lowest = architecture.embeddings if config.embeddings else ()
    depth = len(architecture.layers)
    last = [name for i in range(depth - config.k, depth) for name in architecture.parts_of(i)]
    for name in (*lowest, *last):
        model.get_submodule(name).requires_grad_(True)
    return model


PARTIAL = Method(
    name="partial",
    family="selective",
    summary="the last k layers of the encoder",
    config=PartialConfig,
    learning_rate=1e-4,
    apply=apply,
    paper="Lee et al. 2019, https://arxiv.org/abs/1911.03090",
)
