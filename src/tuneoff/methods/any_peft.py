"""Whatever PEFT can build: its own configuration, taken as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuneoff.exceptions import BadInput, nearest
from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method
from tuneoff.methods.targets import Targeted, chosen_linears

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class AnyPeftConfig(Targeted):
    """`config`: keys of the PEFT configuration, `peft_type` among them.

    `target_modules` come from `targets` and `layers` unless `config` names its own.
    """

    config: dict[str, Any] = field(default_factory=lambda: {"peft_type": "LORA", "r": 8})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.config.get("peft_type"), str):
            raise ValueError("config needs a peft_type, 'BOFT' say")


def apply(model: nn.Module, architecture: Architecture, config: AnyPeftConfig) -> nn.Module:
    """Put the adapter in that PEFT builds; `BadInput` with PEFT's reason where it cannot."""
    from peft import TaskType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    settings = {key: value for key, value in config.config.items() if key != "peft_type"}
    kinds = {str(kind.value): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kind = config.config["peft_type"]
    if kind.upper() not in kinds:
        raise BadInput(f"peft: unknown peft_type {kind!r}", hint=nearest(kind, kinds))
    cls = kinds[kind.upper()]
    known = set(cls.__dataclass_fields__)
    if unknown := sorted(set(settings) - known):
        raise BadInput(
            f"peft: {kind} has no setting {unknown[0]!r}", hint=nearest(unknown[0], known)
        )
    settings.setdefault("task_type", TaskType.SEQ_CLS)
    if "target_modules" in known:
        settings.setdefault("target_modules", chosen_linears(architecture, config))
    try:
        return attach(model, architecture, cls(**settings))
    except (ValueError, TypeError, NotImplementedError) as problem:
        raise BadInput(f"peft: {kind} cannot be built: {problem}") from None


PEFT = Method(
    name="peft",
    family="any",
    summary="whatever PEFT builds from a configuration of its own",
    config=AnyPeftConfig,
    learning_rate=5e-4,
    apply=apply,
    paper="Mangrulkar et al. 2022, https://github.com/huggingface/peft",
    limits="a method that needs more than weights to train (an optimizer, a schedule) gets plain"
    " AdamW",
)
