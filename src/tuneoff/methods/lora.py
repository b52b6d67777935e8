"""Low-rank matrices train beside the frozen weights; with QLoRA those are kept in 4 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method, Role

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """`alpha / rank` scales what the adapter adds; `targets` are roles of linear layers."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[Role, ...] = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError("rank must be at least 1")
        if self.alpha <= 0:
            raise ValueError("alpha must be positive")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie in [0, 1)")
        if not self.targets:
            raise ValueError("targets must name at least one role")


def apply(model: nn.Module, architecture: Architecture, config: LoraConfig) -> nn.Module:
    """Put an adapter beside each linear layer of the target roles."""
    import peft

    names = [name for role in config.targets for name in architecture.linear(role)]
    return attach(
        model,
        architecture,
        peft.LoraConfig(
            task_type=peft.TaskType.SEQ_CLS,
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=names,
        ),
    )


LORA = Method(
    name="lora",
    family="low rank",
    summary="two low-rank matrices beside each target layer",
    config=LoraConfig,
    learning_rate=5e-4,
    apply=apply,
    paper="Hu et al. 2021, https://arxiv.org/abs/2106.09685",
)

QLORA = Method(
    name="qlora",
    family="quantised",
    summary="as lora, beside a body that is kept in 4 bits (NF4)",
    config=LoraConfig,
    learning_rate=5e-4,
    apply=apply,
    quantized=True,
    requires={"bitsandbytes": "qlora"},
    paper="Dettmers et al. 2023, https://arxiv.org/abs/2305.14314",
    limits="needs the extra 'qlora' (bitsandbytes); saves memory, not time",
)
