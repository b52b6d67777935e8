"""Description of an encoder: its layers in order, the roles of its linear layers, and its head.

It is derived from the structure of the model as far as possible. The tables below contain what has
to be specified for each model family.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tuneoff.engine.model.kv_cache import cache_argument
from tuneoff.engine.model.source import first_position
from tuneoff.exceptions import ModelUnavailable
from tuneoff.methods.base import ROLES, Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Names of the linear layers of a layer in the model families. The first match counts: BERT's
# `attention.output.dense` also matches the pattern for its feed-forward `output.dense`.
_ROLE_PATTERNS: tuple[tuple[Role, str], ...] = (
    ("query", r"(query|query_proj|q_lin|q_proj|q_head|attn\.q|attn\.Wqkv|self\.in_proj)$"),
    ("key", r"(key|key_proj|k_lin|k_proj|k_head|attn\.k|attn\.Wqkv|self\.in_proj)$"),
    ("value", r"(value|value_proj|v_lin|v_proj|v_head|attn\.v|attn\.Wqkv|self\.in_proj)$"),
    (
        "attention_output",
        r"(attention\.output\.dense|out_lin|out_proj|o_proj|post_proj|attn\.o|attn\.Wo"
        r"|(?<!bottleneck\.)attention\.dense)$",
    ),
    (
        "ffn_in",
        r"(intermediate\.dense|ffn\.lin1|ffns\.\d+\.lin1|ffn|linear_1|fc1|ff\.layer_1|up_proj"
        r"|gate_proj|mlp\.Wi)$",
    ),
    (
        "ffn_out",
        r"(output\.dense|ffn\.lin2|ffns\.\d+\.lin2|ffn_output|linear_2|fc2|ff\.layer_2|down_proj"
        r"|mlp\.Wo)$",
    ),
)


def _bert_head(model: Any, first: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.bert.pooler(first)))  # type: ignore[no-any-return]


def _albert_head(model: Any, first: Tensor) -> Tensor:
    pooled = model.albert.pooler_activation(model.albert.pooler(first[:, 0]))
    return model.classifier(model.dropout(pooled))  # type: ignore[no-any-return]


def _distilbert_head(model: Any, first: Tensor) -> Tensor:
    return model.classifier(model.dropout(model.pre_classifier(first[:, 0]).relu()))  # type: ignore[no-any-return]


def _classifier_head(model: Any, first: Tensor) -> Tensor:
    return model.classifier(first)  # type: ignore[no-any-return]


# Families whose layers support packed rows, with their head, which takes the states of the first
# tokens. Their layers pass keyword arguments to the attention function and accept position ids.
_PACKED_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": _bert_head,
    "albert": _albert_head,
    "distilbert": _distilbert_head,
    "roberta": _classifier_head,
    "xlm-roberta": _classifier_head,
    "camembert": _classifier_head,
    "electra": _classifier_head,
}

# Module of a layer from which on tokens are independent of each other: the first module after
# attention whose inputs are all states of single tokens. ALBERT is excluded, because its layers are
# the same module.
_PARTING = dict.fromkeys(set(_PACKED_HEADS) - {"albert"}, "attention.output") | {
    "distilbert": "sa_layer_norm"
}


@dataclass(frozen=True)
class EncoderArchitecture:
    """Parts of a classification model, by the names of its modules."""

    model_type: str
    body: str
    """The encoder without the head."""
    embeddings: tuple[str, ...]
    """Modules with weights below the first layer."""
    layers: tuple[str, ...]
    """Layers of the encoder, from the lowest."""
    beside: tuple[str, ...]
    """Module lists with further parts of the layers, one part per layer: XLM has its attention
    modules in `layers`, and its normalisations and feed-forward networks in separate lists."""
    head: tuple[str, ...]
    """Modules of the classification head, including a pooler."""
    norms: tuple[str, ...]
    """Normalisation modules with weights."""
    linears: tuple[str, ...]
    """All linear layers within `layers` and `beside`."""
    roles: dict[Role, tuple[str, ...]]
    """Linear layers by role."""
    first_position: int
    """Position id of the first token of a text."""
    positions: int | None
    """Maximum number of tokens of the position embeddings; None: unlimited."""
    hidden_size: int
    packed_head: Callable[[Any, Tensor], Tensor] | None
    """`packed_head(model, first)` computes logits, of shape (texts, labels), from the states of the
    first tokens, of shape (texts, 1, hidden). None if the family does not support packed rows."""
    parting: str | None
    """Module of the last layer from which on tokens are independent of each other; None if it is
    unknown."""

    def linear(self, role: Role) -> list[str]:
        """Return the names of the linear layers with a role.

        Raises:
            ModelUnavailable: No layer with this role is known.
        """
        names = list(self.roles[role])
        if not names:
            raise ModelUnavailable(
                f"no {role} layers were found in a {self.model_type} model",
                hint="Choose other targets for this method.",
            )
        return names

    def linears_named(self, end: str) -> list[str]:
        """Return the linear layers whose name ends with `end`, as whole parts of the name."""
        return [name for name in self.linears if f".{name}".endswith(end and f".{end}")]

    def layer_of(self, name: str) -> int | None:
        """Return the index of the layer of a module or parameter; None if it is in no layer."""
        dotted = f".{name}."
        for i in range(len(self.layers)):
            if any(f".{part}." in dotted for part in self.parts_of(i)):
                return i
        return None

    def parts_of(self, layer: int) -> tuple[str, ...]:
        """Return the names of the modules of a layer, usually a single one."""
        return (self.layers[layer], *(f"{name}.{layer}" for name in self.beside))

    def reads_cache(self, model: nn.Module) -> bool:
        """Return whether all layers of `model` read keys and values from a cache argument."""
        return cache_argument(model) is not None

    def is_head(self, parameter: str) -> bool:
        """Return whether a parameter belongs to the head; adapters may have extended its name."""
        return any(f".{name}." in f".{parameter}" for name in self.head)


def describe(model: PreTrainedModel) -> EncoderArchitecture:
    """Describe a `…ForSequenceClassification` model without an adapter.

    Raises:
        ModelUnavailable: The model has no recognisable stack of layers.
    """
    config, body = model.config, model.base_model_prefix
    encoder = model.get_submodule(body)
    layers = _layers(encoder, config)
    if not layers:
        raise ModelUnavailable(
            f"no stack of encoder layers was found in a {config.model_type} model"
        )
    layers = tuple(f"{body}.{name}" for name in layers)
    beside = tuple(f"{body}.{name}" for name in _beside(encoder, len(layers), layers[0]))
    inside = tuple(f"{name}." for name in (*layers, *beside))
    top = [name for name, child in model.named_children() if name != body and _has_weights(child)]
    poolers = [
        f"{body}.{name}"
        for name, child in encoder.named_children()
        if name == "pooler" and _has_weights(child)
    ]
    linears = tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(inside)
    )
    return EncoderArchitecture(
        model_type=config.model_type,
        body=body,
        embeddings=_embeddings(encoder, body),
        layers=layers,
        beside=beside,
        head=(*poolers, *top),
        norms=tuple(
            f"{body}.{name}"
            for name, module in encoder.named_modules()
            if "norm" in type(module).__name__.lower() and _has_weights(module)
        ),
        linears=linears,
        roles=_roles(linears),
        first_position=first_position(config.model_type, config.pad_token_id),
        positions=_positions(config),
        hidden_size=config.hidden_size,
        packed_head=_PACKED_HEADS.get(config.model_type),
        parting=f"{layers[-1]}.{parting}" if (parting := _PARTING.get(config.model_type)) else None,
    )


def _layers(encoder: nn.Module, config: Any) -> tuple[str, ...]:
    """Return the layers: the outermost list whose length is the number of layers.

    ALBERT has groups of layers with shared weights, usually one group. Funnel has blocks of layers.
    For an encoder-decoder, these are the layers of the encoder and then of the decoder, because the
    head reads the output of the decoder.
    """
    if getattr(config, "is_encoder_decoder", False):
        lists = [(part, *_stack(encoder.get_submodule(part))) for part in ("encoder", "decoder")]
        return tuple(f"{part}.{name}.{i}" for part, name, size in lists for i in range(size))
    if blocks := getattr(config, "block_sizes", None):
        stacks = [f"encoder.blocks.{i}.{j}" for i, size in enumerate(blocks) for j in range(size)]
        return tuple(stacks)
    depth = getattr(config, "num_hidden_groups", config.num_hidden_layers)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return tuple(f"{name}.{i}" for i in range(depth))
    return ()


def _stack(part: nn.Module) -> tuple[str, int]:
    """Return the name and the length of the outermost list of modules."""
    lists = ((name, x) for name, x in part.named_modules() if isinstance(x, nn.ModuleList))
    name, outermost = next(lists, ("", nn.ModuleList()))
    return name, len(outermost)


def _beside(encoder: nn.Module, depth: int, first: str) -> list[str]:
    """Return the encoder's lists of `depth` modules, except the one with the layer `first`."""
    return [
        name
        for name, child in encoder.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == depth and f".{name}." not in first
    ]


def _embeddings(encoder: nn.Module, body: str) -> tuple[str, ...]:
    """Return the children of the encoder that contain or project token embeddings."""
    return tuple(
        f"{body}.{name}"
        for name, child in encoder.named_children()
        if name.startswith("embed") and _has_weights(child)
    )


def _positions(config: Any) -> int | None:
    """Return the number of usable position embeddings; RoBERTa does not use the first ones."""
    absolute = getattr(config, "position_biased_input", True)  # mostly False in DeBERTa
    if not absolute or config.model_type in _WITHOUT_TABLE:
        return None
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - first_position(config.model_type, config.pad_token_id)


# Families with rotary or relative positions, which have no limit.
_WITHOUT_TABLE = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma", "modernbert", "funnel"})


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _roles(linears: tuple[str, ...]) -> dict[Role, tuple[str, ...]]:
    """Return the linear layers by role; a fused query-key-value layer has all three roles."""
    by_role: dict[Role, list[str]] = {role: [] for role in ROLES}
    for name in linears:
        roles = [role for role, pattern in _ROLE_PATTERNS if re.search(rf"(^|\.){pattern}", name)]
        fused = roles == ["query", "key", "value"]
        for role in roles if fused else roles[:1]:
            by_role[role].append(name)
    return {role: tuple(names) for role, names in by_role.items()}
