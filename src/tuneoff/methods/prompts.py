"""Prompt tuning and prefix tuning: trained virtual tokens before the text or in each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tuneoff.exceptions import BadInput
from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Method
from tuneoff.methods.search_ranges import Span

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """Settings of prompt and prefix tuning.

    `tokens` is the number of virtual tokens.
    """

    tokens: Annotated[int, Span(5, 100, log=True, whole=True)] = 20

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError("tokens must be at least 1")


def _prefix(model: nn.Module, architecture: Architecture, config: PromptConfig) -> nn.Module:
    import peft

    if not architecture.reads_cache(model):
        raise BadInput(
            "prefix tuning needs layers that read a key-value cache, which"
            f" {architecture.model_type} does not have"
        )
    return attach(
        model, architecture, peft.PrefixTuningConfig(**_shape(model, architecture, config))
    )


def _prompt(model: Any, architecture: Architecture, config: PromptConfig) -> nn.Module:
    import peft

    shape = _shape(model, architecture, config)
    shape["token_dim"] = model.get_input_embeddings().embedding_dim  # below hidden_size in ELECTRA
    return attach(model, architecture, peft.PromptTuningConfig(**shape))


def _shape(model: Any, architecture: Architecture, config: PromptConfig) -> dict[str, Any]:
    """Return sizes that PEFT would look up under names that not every configuration has."""
    import peft

    return {
        "task_type": peft.TaskType.SEQ_CLS,
        "num_virtual_tokens": config.tokens,
        "num_layers": model.config.num_hidden_layers,
        "num_attention_heads": model.config.num_attention_heads,
        "token_dim": model.config.hidden_size,
    }


def _tokens(config: PromptConfig) -> int:
    return config.tokens


PREFIX = Method(
    name="prefix",
    family="prompts",
    summary="virtual tokens before the keys and values of each layer",
    config=PromptConfig,
    learning_rate=5e-3,
    apply=_prefix,
    virtual_tokens=_tokens,
    paper="Li and Liang 2021, https://arxiv.org/abs/2101.00190",
    limits="the virtual tokens use up positions of the text; trains on padded batches",
)

PROMPT = Method(
    name="prompt",
    family="prompts",
    summary="virtual tokens before the text",
    config=PromptConfig,
    learning_rate=5e-3,
    apply=_prompt,
    virtual_tokens=_tokens,
    paper="Lester et al. 2021, https://arxiv.org/abs/2104.08691",
    limits="the virtual tokens use up positions of the text, including the first one, which most"
    " heads read; trains on padded batches; weak on small models",
)
