"""IA3: trained vectors scale keys, values and the input of the second feed-forward layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tuneoff.methods.adapted import attach
from tuneoff.methods.base import ROLES, Architecture, Method, ParamGroup
from tuneoff.methods.search_ranges import Choice
from tuneoff.methods.targets import Targeted, chosen_linears, linears_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Ia3Config(Targeted):
    """Settings of IA3.

    `targets` are the roles or modules that are scaled: feed-forward layers at their input, others
    at their output.
    """

    targets: Annotated[
        tuple[str, ...], Choice((("key", "value", "ffn_out"), ("key", "value"), ROLES))
    ] = ("key", "value", "ffn_out")


def apply(model: nn.Module, architecture: Architecture, config: Ia3Config) -> nn.Module:
    """Add a vector of ones to scale the output (feed-forward: the input) of each target layer."""
    import peft

    names = chosen_linears(architecture, config)
    inputs = {
        name
        for role in config.targets
        if role in ("ffn_in", "ffn_out")
        for name in linears_of(architecture, role)
    }
    return attach(
        model,
        architecture,
        peft.IA3Config(
            task_type=peft.TaskType.SEQ_CLS,
            target_modules=names,
            feedforward_modules=[name for name in names if name in inputs],
        ),
    )


def param_group(name: str, architecture: Architecture, config: Ia3Config) -> ParamGroup:
    """Exclude the vectors from weight decay: their neutral value is 1, not 0.

    By default they would decay, because PEFT stores them as matrices.
    """
    return ParamGroup(decays=False)


IA3 = Method(
    name="ia3",
    family="scaling",
    summary="vectors that scale keys, values and the input of the second feed-forward layer",
    config=Ia3Config,
    learning_rate=2.5e-3,
    apply=apply,
    param_group=param_group,
    paper="Liu et al. 2022, https://arxiv.org/abs/2205.05638",
)
