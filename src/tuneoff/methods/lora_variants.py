"""Variants of LoRA that differ in its scaling, parametrisation, initialisation or training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.methods.base import Architecture, Hook, Method, ParamGroup
from tuneoff.methods.lora import LoraConfig, apply, apply_with

if TYPE_CHECKING:
    from torch import Tensor, nn


def _rank_stabilised(model: nn.Module, architecture: Architecture, config: Any) -> nn.Module:
    return apply_with(model, architecture, config, use_rslora=True)


RSLORA = Method(
    name="rslora",
    family="low rank",
    summary="as lora, scaled by alpha / sqrt(rank), so that high ranks learn as fast as low ones",
    config=LoraConfig,
    learning_rate=2e-4,
    apply=_rank_stabilised,
    paper="Kalajdzievski 2023, https://arxiv.org/abs/2312.03732",
)


def _with_magnitudes(model: nn.Module, architecture: Architecture, config: Any) -> nn.Module:
    return apply_with(model, architecture, config, use_dora=True)


DORA = Method(
    name="dora",
    family="low rank",
    summary="as lora, with a separately trained vector of magnitudes per target layer",
    config=LoraConfig,
    learning_rate=5e-4,
    apply=_with_magnitudes,
    paper="Liu et al. 2024, https://arxiv.org/abs/2402.09353",
    limits="computes the norms of all target weights in each step, so it is slower than lora",
)


def _principal(model: nn.Module, architecture: Architecture, config: Any) -> nn.Module:
    # Models on the meta device, for counting parameters, have no values to decompose.
    has_values = next(model.parameters()).device.type != "meta"
    init = "pissa" if has_values else True
    return apply_with(model, architecture, config, init_lora_weights=init)


class _AsLora(Hook):
    """Saves PiSSA as a plain LoRA of twice the rank for the original base model.

    PiSSA trains B A in addition to the residual W - B0 A0, so the trained weight is
    W + B A - B0 A0, where `alpha / rank` scales both products. Without the conversion, loading the
    model would decompose every base weight again.
    """

    def __init__(self, model: Any) -> None:
        self._config = model.peft_config["default"]
        self._first = {
            name: weight.detach().float().cpu().clone()
            for name, weight in model.named_parameters()
            if ".lora_A." in name or ".lora_B." in name
        }

    def before_save(self, weights: dict[str, Tensor]) -> None:
        import torch

        for name, first in self._first.items():
            side = 0 if ".lora_A." in name else 1
            learnt = weights[name].detach().cpu()
            weights[name] = torch.cat([learnt, first if side == 0 else -first], side)
        config = self._config
        config.init_lora_weights = True
        config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
        config.rank_pattern = {n: 2 * rank for n, rank in config.rank_pattern.items()}
        config.alpha_pattern = {n: 2 * alpha for n, alpha in config.alpha_pattern.items()}


def _as_lora(model: nn.Module, config: Any) -> Hook:
    return _AsLora(model)


PISSA = Method(
    name="pissa",
    family="low rank",
    summary="as lora, initialised with the principal singular vectors of each weight",
    config=LoraConfig,
    learning_rate=2e-4,
    apply=_principal,
    hook=_as_lora,
    paper="Meng et al. 2024, https://arxiv.org/abs/2404.02948",
    limits="decomposes every target weight at the start; saved as a LoRA of twice the rank",
)


@dataclass(frozen=True, kw_only=True)
class LoraPlusConfig(LoraConfig):
    """Settings of LoRA+.

    `ratio` is the learning rate of the second matrix divided by that of the first. The learning
    rate of the run applies to the head; the matrices have rate / sqrt(ratio) and
    rate * sqrt(ratio), so that a ratio of 1 is `lora`. In the paper the learning rate is that of
    the first matrix, and the ratio is 16; with that low a rate, the head learns too slowly if there
    are many labels (macro-F1 on banking77 of 0.80, compared with 0.93 of `lora`).
    """

    ratio: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio <= 0:
            raise ValueError("ratio must be positive")


def _faster_b(name: str, architecture: Architecture, config: LoraPlusConfig) -> ParamGroup:
    if ".lora_A." in name:
        return ParamGroup(rate=config.ratio**-0.5)
    return ParamGroup(rate=config.ratio**0.5 if ".lora_B." in name else 1.0)


LORA_PLUS = Method(
    name="lora_plus",
    family="low rank",
    summary="as lora, with 4 times the learning rate for the second matrix",
    config=LoraPlusConfig,
    learning_rate=3.5e-4,
    apply=apply,
    param_group=_faster_b,
    paper="Hayou et al. 2024, https://arxiv.org/abs/2402.12354",
)


def _frozen_a(model: nn.Module, architecture: Architecture, config: Any) -> nn.Module:
    adapted = apply(model, architecture, config)
    for name, weight in adapted.named_parameters():
        if ".lora_A." in name:
            weight.requires_grad_(False)
    return adapted


LORA_FA = Method(
    name="lora_fa",
    family="low rank",
    summary="as lora, with the first matrix frozen at its random initial values",
    config=LoraConfig,
    learning_rate=1e-3,
    apply=_frozen_a,
    paper="Zhang et al. 2023, https://arxiv.org/abs/2308.03303",
)
