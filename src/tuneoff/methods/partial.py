"""Partial fine-tuning: only the last k layers of the encoder are trained."""

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
    """Settings of partial fine-tuning.

    `k` is the number of last layers that are trained; `embeddings` sets whether the embeddings are
    trained as well.
    """

    k: Annotated[int, Span(1, 4, whole=True)] = 2
    embeddings: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k must be at least 1 (use the method 'head' to train only the head)")


def apply(model: nn.Module, architecture: Architecture, config: PartialConfig) -> nn.Module:
    """Train the last `k` layers.

    Raises:
        BadInput: The encoder has fewer layers.
    """
    if config.k > len(architecture.layers):
        raise BadInput(
            f"k is {config.k}, but {described(architecture)}",
            hint="Reduce k, or use the method 'full'.",
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
