"""Adapters whose update is a Hadamard product (LoHa) or a Kronecker product (LoKr)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method
from tuneoff.methods.search_ranges import RANK
from tuneoff.methods.targets import Targeted, chosen_linears

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LohaConfig(Targeted):
    """Settings of LoHa.

    `alpha / rank` is the factor of the update; without `alpha` it is 1.
    """

    rank: Annotated[int, RANK] = 8
    alpha: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError("rank must be at least 1")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError("alpha must be positive")


@dataclass(frozen=True, kw_only=True)
class LokrConfig(LohaConfig):
    """Settings of LoKr.

    `alpha / rank` is the factor of the update; without `alpha` it is 1. `factor` is the size of the
    smaller Kronecker factor; -1 chooses the divisor that is closest to the square root.
    """

    factor: int = -1


def _hadamard(model: nn.Module, architecture: Architecture, config: LohaConfig) -> nn.Module:
    import peft

    return attach(
        model,
        architecture,
        peft.LoHaConfig(
            task_type=peft.TaskType.SEQ_CLS,
            r=config.rank,
            alpha=config.alpha or config.rank,
            target_modules=chosen_linears(architecture, config),
        ),
    )


def _kronecker(model: nn.Module, architecture: Architecture, config: LokrConfig) -> nn.Module:
    import peft

    return attach(
        model,
        architecture,
        peft.LoKrConfig(
            task_type=peft.TaskType.SEQ_CLS,
            r=config.rank,
            alpha=config.alpha or config.rank,
            decompose_factor=config.factor,
            target_modules=chosen_linears(architecture, config),
        ),
    )


LOHA = Method(
    name="loha",
    family="low rank",
    summary="an element-wise product of two low-rank updates per target layer",
    config=LohaConfig,
    learning_rate=1e-3,
    apply=_hadamard,
    paper="Hyeon-Woo et al. 2021 (FedPara), https://arxiv.org/abs/2108.06098",
    limits="computes the full update in each step, so it is slower than lora",
)

LOKR = Method(
    name="lokr",
    family="low rank",
    summary="a Kronecker product of a small and a low-rank matrix per target layer",
    config=LokrConfig,
    learning_rate=1e-3,
    apply=_kronecker,
    paper="Edalati et al. 2022 (KronA), https://arxiv.org/abs/2212.10650",
    limits="computes the full update in each step, so it is slower than lora",
)
