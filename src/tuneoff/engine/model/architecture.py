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

from tuneoff.engine.model.kv_cache import cache_argument
from tuneoff.engine.model.source import first_position
from tuneoff.exceptions import ModelUnavailable
from tuneoff.methods.base import ROLES, Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How families call the linear layers of a layer. The first match wins: BERT's feed-forward
# `output.dense` must not take its `attention.output.dense`.
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


# Families whose layers run on a packed row, with their head on the first tokens' states. Their
# layers hand keyword arguments on to the attention function, and take position ids.
_PACKED_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": _bert_head,
    "albert": _albert_head,
    "distilbert": _distilbert_head,
    "roberta": _classifier_head,
    "xlm-roberta": _classifier_head,
    "camembert": _classifier_head,
    "electra": _classifier_head,
}

# Where in a layer tokens part for good: the first module after attention all of whose inputs are
# states of single tokens. ALBERT's last layer is its first one, too.
_PARTING = dict.fromkeys(set(_PACKED_HEADS) - {"albert"}, "attention.output") | {
    "distilbert": "sa_layer_norm"
}


@dataclass(frozen=True)
class EncoderArchitecture:
    """The parts of a classification model, by the names of its modules."""

    model_type: str
    body: str
    embeddings: tuple[str, ...]
    """Modules with weights below the first layer."""
    layers: tuple[str, ...]
    beside: tuple[str, ...]
    """Lists of further parts of the layers, a part for each: XLM has its attentions in `layers`,
    and normalisations and feed-forward networks in lists of their own."""
    head: tuple[str, ...]
    norms: tuple[str, ...]
    linears: tuple[str, ...]
    """Every linear layer inside of `layers`."""
    roles: dict[Role, tuple[str, ...]]
    first_position: int
    positions: int | None
    """Tokens that the position embeddings have room for; None: any number."""
    hidden_size: int
    packed_head: Callable[[Any, Tensor], Tensor] | None
    """`packed_head(model, first)`: first-token states (texts, 1, hidden) to logits (texts, labels);
    None where the family cannot be packed."""
    parting: str | None
    """Module of the last layer from which on no token needs another; None where none is known."""

    def linear(self, role: Role) -> list[str]:
        """Names of the linear layers that play `role`; `ModelUnavailable` if none is known to."""
        names = list(self.roles[role])
        if not names:
            raise ModelUnavailable(
                f"no {role} layers were found in a {self.model_type} model",
                hint="Choose other targets for this method.",
            )
        return names

    def linears_named(self, end: str) -> list[str]:
        """Names of the linear layers in the encoder's layers that end in `end`."""
        return [name for name in self.linears if f".{name}".endswith(end and f".{end}")]

    def layer_of(self, name: str) -> int | None:
        """Index of the layer that a module or parameter belongs to; None outside of them."""
        dotted = f".{name}."
        for i in range(len(self.layers)):
            if any(f".{part}." in dotted for part in self.parts_of(i)):
                return i
        return None

    def parts_of(self, layer: int) -> tuple[str, ...]:
        """Names of the modules that make up a layer: mostly a single one."""
        return (self.layers[layer], *(f"{name}.{layer}" for name in self.beside))

    def reads_cache(self, model: nn.Module) -> bool:
        """Whether every layer of `model` reads keys and values from a cache that it is given."""
        return cache_argument(model) is not None

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter of this name, adapter wrappers and all, belongs to the head."""
        return any(f".{name}." in f".{parameter}" for name in self.head)


def describe(model: PreTrainedModel) -> EncoderArchitecture:
    """The architecture of a `…ForSequenceClassification` model that has no adapter yet.

    Raises `ModelUnavailable` where no stack of layers is found.
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
    """The outermost list of as many modules as the configuration has layers.

    ALBERT's layers share the weights of a few groups, mostly of one. Funnel's stand in blocks. An
    encoder-decoder has those of its encoder first, for the head reads what the decoder gives.
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
    """Name and length of the outermost list of modules."""
    lists = ((name, x) for name, x in part.named_modules() if isinstance(x, nn.ModuleList))
    name, found = next(lists, ("", nn.ModuleList()))
    return name, len(found)


def _beside(encoder: nn.Module, depth: int, first: str) -> list[str]:
    """Lists of `depth` modules, children of the encoder, other than that of the `first` layer."""
    return [
        name
        for name, child in encoder.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == depth and f".{name}." not in first
    ]


def _embeddings(encoder: nn.Module, body: str) -> tuple[str, ...]:
    """Children of the encoder that hold a token embedding, or map embeddings to its width."""
    return tuple(
        f"{body}.{name}"
        for name, child in encoder.named_children()
        if name.startswith("embed") and _has_weights(child)
    )


def _positions(config: Any) -> int | None:
    """Rows of the table of position embeddings, those of RoBERTa's first ones taken off."""
    absolute = getattr(config, "position_biased_input", True)  # DeBERTa's are mostly relative
    if not absolute or config.model_type in _WITHOUT_TABLE:
        return None
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - first_position(config.model_type, config.pad_token_id)


# Positions are rotated into keys and queries, or relative: no table that ends.
_WITHOUT_TABLE = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma", "modernbert", "funnel"})


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _roles(linears: tuple[str, ...]) -> dict[Role, tuple[str, ...]]:
    """Linear layers by role; one that makes queries, keys and values at once has all three."""
    found: dict[Role, list[str]] = {role: [] for role in ROLES}
    for name in linears:
        roles = [role for role, pattern in _ROLE_PATTERNS if re.search(rf"(^|\.){pattern}", name)]
        fused = roles == ["query", "key", "value"]
        for role in roles if fused else roles[:1]:
            found[role].append(name)
    return {role: tuple(names) for role, names in found.items()}
