"""Vectors train that scale keys, values and the input of the second feed-forward layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method, Role

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Ia3Config:
    """`targets`: roles of the scaled layers; `ffn_in`/`ffn_out` are scaled at their input."""

    targets: tuple[Role, ...] = ("key", "value", "ffn_out")

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets must name at least one role")


def apply(model: nn.Module, architecture: Architecture, config: Ia3Config) -> nn.Module:
    """Put a vector of ones on the output (feed-forward: input) of each target layer."""
    import peft

    feedforward = [
        name
        for role in config.targets
        if role in ("ffn_in", "ffn_out")
        for name in architecture.linear(role)
    ]
    names = [name for role in config.targets for name in architecture.linear(role)]
    return attach(
        model,
        architecture,
        peft.IA3Config(
            task_type=peft.TaskType.SEQ_CLS, target_modules=names, feedforward_modules=feedforward
        ),
    )


IA3 = Method(
    name="ia3",
    family="scaling",
    summary="vectors on keys, values and the input of the second feed-forward layer",
    config=Ia3Config,
    learning_rate=2.5e-3,
    apply=apply,
    paper="Liu et al. 2022, https://arxiv.org/abs/2205.05638",
)
