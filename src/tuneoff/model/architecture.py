"""One description per encoder: layers in order, the role of every linear layer, the head.

Derived from the model's structure where that says enough; what a family must be told stands in the
two tables below.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tuneoff.errors import ModelUnavailable
from tuneoff.methods.base import ROLES, Role
from tuneoff.model.source import first_position

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How families call the linear layers of a layer. The first match wins: BERT's feed-forward
# `output.dense` must not take its `attention.output.dense`.
_ROLE_PATTERNS: tuple[tuple[Role, str], ...] = (
    ("query", r"(query|query_proj|q_lin|q_proj|attn\.q)$"),
    ("key", r"(key|key_proj|k_lin|k_proj|attn\.k)$"),
    ("value", r"(value|value_proj|v_lin|v_proj|attn\.v)$"),
    (
        "attention_output",
        r"(attention\.output\.dense|out_lin|out_proj|o_proj|attn\.o|attention\.dense)$",
    ),
    ("ffn_in", r"(intermediate\.dense|ffn\.lin1|ffn|up_proj|gate_proj|mlp\.Wi)$"),
    ("ffn_out", r"(output\.dense|ffn\.lin2|ffn_output|down_proj|mlp\.Wo)$"),
)


def _bert_head(model: Any, first: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.bert.pooler(first)))  # type: ignore[no-any-return]


def _distilbert_head(model: Any, first: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.pre_classifier(first[:, 0]).relu()))  # type: ignore[no-any-return]


def _classifier_head(model: Any, first: Tensor) -> Tensor:
    return model.classifier(first)  # type: ignore[no-any-return]


# Families whose layers run on a packed row, with their head on the first tokens' states. Their
# layers hand keyword arguments on to the attention function, and take position ids.
_PACKED_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": _bert_head,
    "distilbert": _distilbert_head,
    "roberta": _classifier_head,
    "xlm-roberta": _classifier_head,
    "camembert": _classifier_head,
    "electra": _classifier_head,
}


@dataclass(frozen=True)
class EncoderArchitecture:
    """The parts of a classification model, by the names of its modules."""

    model_type: str
    body: str
    layers: tuple[str, ...]
    head: tuple[str, ...]
    roles: dict[Role, tuple[str, ...]]
    first_position: int
    hidden_size: int
    packed_head: Callable[[Any, Tensor], Tensor] | None
    """`packed_head(model, first)`: first-token states (texts, 1, hidden) to logits (texts, labels);
    None where the family cannot be packed."""

    def linear(self, role: Role) -> list[str]:
        """Names of the linear layers that play `role`; `ModelUnavailable` if none is known to."""
        names = list(self.roles[role])
        if not names:
            raise ModelUnavailable(
                f"no {role} layers were found in a {self.model_type} model",
                mend="Choose other targets for this method.",
            )
        return names

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter of this name, adapter wrappers and all, belongs to the head."""
        return any(f".{name}." in f".{parameter}" for name in self.head)


def describe(model: PreTrainedModel) -> EncoderArchitecture:
    """The architecture of a `…ForSequenceClassification` model that has no adapter yet."""
    config, body = model.config, model.base_model_prefix
    encoder = model.get_submodule(body)
    # ALBERT's layers share the weights of a few groups, mostly of one.
    depth = getattr(config, "num_hidden_groups", config.num_hidden_layers)
    stacks = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not stacks:
        raise ModelUnavailable(
            f"no stack of encoder layers was found in a {config.model_type} model"
        )
    stack = f"{body}.{stacks[0][0]}"
    layers = tuple(f"{stack}.{i}" for i in range(depth))
    head = [name for name, child in model.named_children() if name != body and _has_weights(child)]
    head = [
        f"{body}.{n}"
        for n, child in encoder.named_children()
        if n == "pooler" and _has_weights(child)
    ] + head
    return EncoderArchitecture(
        model_type=config.model_type,
        body=body,
        layers=layers,
        head=tuple(head),
        roles=_roles(model, stack),
        first_position=first_position(config.model_type, config.pad_token_id),
        hidden_size=config.hidden_size,
        packed_head=_PACKED_HEADS.get(config.model_type),
    )


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _roles(model: nn.Module, stack: str) -> dict[Role, tuple[str, ...]]:
    found: dict[Role, list[str]] = {role: [] for role in ROLES}
    for name, module in model.named_modules():
        if name.startswith(stack + ".") and isinstance(module, nn.Linear):
            for role, pattern in _ROLE_PATTERNS:
                if re.search(rf"(^|\.){pattern}", name):
                    found[role].append(name)
                    break
    return {role: tuple(names) for role, names in found.items()}
