"""Any adapter of PEFT, built from a PEFT configuration."""

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
    """Settings of a PEFT adapter.

    `config` has the keys of the PEFT configuration, including `peft_type`. Without
    `target_modules` in it, they are derived from `targets` and `layers`.
    """

    config: dict[str, Any] = field(default_factory=lambda: {"peft_type": "LORA", "r": 8})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.config.get("peft_type"), str):
            raise ValueError("config needs a peft_type, such as 'BOFT'")


def apply(model: nn.Module, architecture: Architecture, config: AnyPeftConfig) -> nn.Module:
    """Attach the adapter that PEFT builds.

    Raises:
        BadInput: PEFT does not know the type or a setting, or cannot build the adapter.
    """
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
    except (ValueError, TypeError, NotImplementedError) as error:
        raise BadInput(f"peft: {kind} cannot be built: {error}") from None


PEFT = Method(
    name="peft",
    family="any",
    summary="any adapter that PEFT builds from its own configuration",
    config=AnyPeftConfig,
    learning_rate=5e-4,
    apply=apply,
    paper="Mangrulkar et al. 2022, https://github.com/huggingface/peft",
    limits="PEFT methods that need their own optimizer or schedule are trained with plain AdamW",
)
