"""LoRA: trained low-rank updates of frozen weights. QLoRA keeps the frozen weights in 4 bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tuneoff.exceptions import BadInput, nearest
from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method
from tuneoff.methods.budget import parse_budget, ranks_within
from tuneoff.methods.search_ranges import DROPOUT, RANK, Choice
from tuneoff.methods.targets import Targeted, chosen_linears, linears_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Targeted):
    """Settings of LoRA.

    `alpha / rank` is the factor of the update; without `alpha` it is 2. `rank_pattern` sets the
    rank of single roles or modules. `budget`, such as "4.67%", replaces the rank by the percentage
    of all weights that is trained, including the head. `bias` sets which biases are trained as
    well. `init` is the initialisation of the first matrix.
    """

    rank: Annotated[int, RANK] = 8
    alpha: Annotated[float | None, Choice((None, 4.0, 16.0, 64.0))] = None
    dropout: Annotated[float, DROPOUT] = 0.0
    rank_pattern: dict[str, int] = field(default_factory=dict)
    budget: str | None = None
    bias: Literal["none", "all", "lora_only"] = "none"
    init: Literal["default", "gaussian", "orthogonal"] = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.rank, *self.rank_pattern.values(), 1 << 30) < 1:
            raise ValueError("rank must be at least 1")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError("alpha must be positive")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie in [0, 1)")
        if self.init == "orthogonal" and self.rank % 2:
            raise ValueError("init 'orthogonal' needs an even rank")
        if self.budget is not None:
            parse_budget(self.budget)
            if self.rank_pattern:
                raise ValueError("budget cannot be combined with rank_pattern")


def apply(model: nn.Module, architecture: Architecture, config: LoraConfig) -> nn.Module:
    """Add a low-rank adapter to each target layer."""
    return apply_with(model, architecture, config)


def apply_with(
    model: nn.Module, architecture: Architecture, config: LoraConfig, **more: Any
) -> nn.Module:
    """Like `apply`, with more settings of `peft.LoraConfig`, which take precedence."""
    import peft

    names = chosen_linears(architecture, config)
    ranks = _ranks(model, architecture, config, names)
    alphas = {n: 2 * rank if config.alpha is None else config.alpha for n, rank in ranks.items()}
    init = True if config.init == "default" else config.init
    settings: dict[str, Any] = {
        "task_type": peft.TaskType.SEQ_CLS,
        "r": ranks[names[0]],
        "lora_alpha": alphas[names[0]],
        "lora_dropout": config.dropout,
        "bias": config.bias,
        "init_lora_weights": init,
        "target_modules": names,
        # Deviations only, because PEFT tries one regular expression per entry for each module.
        "rank_pattern": {n: rank for n, rank in ranks.items() if rank != ranks[names[0]]},
        "alpha_pattern": {n: alpha for n, alpha in alphas.items() if alpha != alphas[names[0]]},
    }
    return attach(model, architecture, peft.LoraConfig(**(settings | more)))


def _ranks(
    model: nn.Module, architecture: Architecture, config: LoraConfig, names: list[str]
) -> dict[str, int]:
    if config.budget is not None:
        modules: dict[str, Any] = {name: model.get_submodule(name) for name in names}
        per_rank = {name: m.in_features + m.out_features for name, m in modules.items()}
        return ranks_within(config.budget, model, architecture, per_rank)
    ranks = dict.fromkeys(names, config.rank)
    for target, rank in config.rank_pattern.items():
        theirs = [name for name in linears_of(architecture, target) if name in ranks]
        if not theirs:
            raise BadInput(
                f"rank_pattern: {target!r} is not among the targets",
                hint=nearest(target, config.targets),
            )
        ranks |= dict.fromkeys(theirs, rank)
    return ranks


LORA = Method(
    name="lora",
    family="low rank",
    summary="two low-rank matrices in parallel with each target layer",
    config=LoraConfig,
    learning_rate=5e-4,
    apply=apply,
    paper="Hu et al. 2021, https://arxiv.org/abs/2106.09685",
)

QLORA = Method(
    name="qlora",
    family="quantised",
    summary="as lora, for a model whose frozen weights are quantised to 4 bits (NF4)",
    config=LoraConfig,
    learning_rate=5e-4,
    apply=apply,
    quantized=True,
    requires={"bitsandbytes": "qlora"},
    paper="Dettmers et al. 2023, https://arxiv.org/abs/2305.14314",
    limits="needs the extra 'qlora' (bitsandbytes); saves memory, not time",
)
