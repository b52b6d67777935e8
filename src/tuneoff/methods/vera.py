"""VeRA: two trained vectors per target layer, and random matrices shared by all layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method
from tuneoff.methods.search_ranges import DROPOUT, Span
from tuneoff.methods.targets import Targeted, chosen_linears

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class VeraConfig(Targeted):
    """Settings of VeRA.

    `rank` is the rank of the shared matrices. `initial` is the initial value of the vector between
    them.
    """

    rank: Annotated[int, Span(32, 1024, log=True, whole=True)] = 256
    dropout: Annotated[float, DROPOUT] = 0.0
    initial: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError("rank must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie in [0, 1)")


def apply(model: nn.Module, architecture: Architecture, config: VeraConfig) -> nn.Module:
    """Add the vectors and the shared matrices to each target layer."""
    import peft

    return attach(
        model,
        architecture,
        peft.VeraConfig(
            task_type=peft.TaskType.SEQ_CLS,
            r=config.rank,
            vera_dropout=config.dropout,
            d_initial=config.initial,
            target_modules=chosen_linears(architecture, config),
        ),
    )


VERA = Method(
    name="vera",
    family="low rank",
    summary="two vectors per target layer, which scale random matrices shared by all layers",
    config=VeraConfig,
    learning_rate=5e-3,
    apply=apply,
    paper="Kopiczko et al. 2023, https://arxiv.org/abs/2310.11454",
    limits="the shared random matrices are saved with the model",
)
