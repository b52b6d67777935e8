"""Key-value caches: which models read one, and how PEFT's prefix reaches them.

Prefix tuning puts trained keys and values before those of each layer, in a Transformers `Cache`.
The argument that takes the cache is called `past_key_values` in some releases of Transformers and
`cache` in others, PEFT knows only the former, and some models accept such an argument for another
purpose. The name therefore proves nothing, and the model is tried instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import torch

_PEFT_ARGUMENT = "past_key_values"
_CANDIDATES = re.compile(r"past|cache")
_TOKENS = 2
_RENAMED = "renamed_argument"
"""Attribute of a `forward` that this module put in place of a model's own."""


def cache_argument(model: Any) -> str | None:
    """Name of the argument of the body of `model` through which all layers read a cache.

    Each candidate is tried in a forward pass without weights, on the meta device, which takes about
    0.1 s. `model` is a `…ForSequenceClassification` model without an adapter. None: no layer, or
    not every layer, reads a cache.
    """
    with torch.device("meta"):
        body = type(model)(model.config).get_submodule(model.base_model_prefix).eval()
        candidates = filter(_CANDIDATES.search, signature(body.forward).parameters)
        return next((name for name in candidates if _reads_cache(body, name)), None)


@torch.no_grad()
def _reads_cache(body: Any, argument: str) -> bool:
    """Whether every layer adds its keys and values to a cache that is passed as `argument`."""
    from transformers import DynamicCache

    used: set[int] = set()

    class Observed(DynamicCache):
        def update(
            self, key_states: Any, value_states: Any, layer_idx: int, *rest: Any, **more: Any
        ) -> Any:
            used.add(layer_idx)
            return super().update(key_states, value_states, layer_idx, *rest, **more)

    width = body.get_input_embeddings().embedding_dim
    try:
        body(
            inputs_embeds=torch.zeros(1, _TOKENS, width),
            # A complete mask: building one from a row of ones would need its values.
            attention_mask=torch.zeros(1, 1, _TOKENS, _TOKENS),
            **{argument: Observed(config=body.config)},
        )
    except Exception:  # a model fails in its own way at an argument that it does not understand
        return False
    return used == set(range(body.config.num_hidden_layers))


def pass_prefix(model: Any) -> bool:
    """Let PEFT pass the prefix of `model`, whatever the argument for a cache is called.

    Returns True if `model` uses prefix tuning and this PEFT cannot run it without this function. A
    second call changes nothing and returns the same.
    """
    from peft import PeftType

    configs = getattr(model, "peft_config", {}).values()
    if all(config.peft_type != PeftType.PREFIX_TUNING for config in configs):
        return False
    base = model.get_base_model()
    modules = (base, base.get_submodule(base.base_model_prefix))
    if any(hasattr(module.forward, _RENAMED) for module in modules):
        return True
    if _runs(model):
        return False
    argument = cache_argument(base)
    if argument is None:  # PEFT fails for another reason, which its own message gives
        return False
    for module in modules:
        if argument in signature(module.forward).parameters:
            module.forward = _renamed(module.forward, argument)
    return True


@torch.no_grad()
def _runs(model: Any) -> bool:
    """Whether PEFT can compute the logits of two tokens."""
    training, weight = model.training, model.get_input_embeddings().weight
    model.eval()
    try:
        model(
            inputs_embeds=weight.new_zeros(1, _TOKENS, weight.shape[1]),
            attention_mask=weight.new_ones(1, _TOKENS, dtype=torch.long),
        )
    except (TypeError, ValueError):  # PEFT: "Model does not support past key values"
        return False
    finally:
        model.train(training)
    return True


def _renamed(forward: Callable[..., Any], argument: str) -> Callable[..., Any]:
    """`forward` that also takes its `argument` under the name that PEFT looks for."""

    def renamed(*inputs: Any, **more: Any) -> Any:
        if _PEFT_ARGUMENT in more:
            more[argument] = more.pop(_PEFT_ARGUMENT)
        return forward(*inputs, **more)

    *others, last = signature(forward).parameters.values()  # the last is **kwargs
    added = Parameter(_PEFT_ARGUMENT, Parameter.KEYWORD_ONLY, default=None)
    renamed.__signature__ = signature(forward).replace(  # type: ignore[attr-defined]
        parameters=[*others, added, last]
    )
    setattr(renamed, _RENAMED, argument)
    return renamed
