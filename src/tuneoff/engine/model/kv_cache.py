"""Key-value caches: detect models that read one, and pass PEFT's prefix to them.

Prefix tuning prepends trained keys and values to those of each layer, in a Transformers `Cache`.
The argument for the cache is called `past_key_values` in some releases of Transformers and `cache`
in others, PEFT knows only the former, and some models use such an argument for another purpose. The
name is therefore no proof, and a forward pass is tried instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

_PEFT_ARGUMENT = "past_key_values"
_CANDIDATES = re.compile(r"past|cache")
_RENAMED = "renamed_argument"
"""Attribute that marks a `forward` method replaced by this module."""


def cache_argument(model: Any) -> str | None:
    """Return the name of the argument through which all layers of the body read a cache.

    Each candidate is tried in forward passes of a copy with arbitrary weights, which takes about
    0.1 s.

    Args:
        model: A `…ForSequenceClassification` model without an adapter, on any device.

    Returns:
        The name; None if not all layers read a cache.
    """
    with torch.device("meta"):
        body = type(model)(model.config).get_submodule(model.base_model_prefix)
    candidates = list(filter(_CANDIDATES.search, signature(body.forward).parameters))
    if not candidates:
        return None
    body.to_empty(device="cpu").eval()
    for buffer in body.buffers():  # some contain indices, which must be valid
        buffer.zero_()
    return next((name for name in candidates if _reads_cache(body, name)), None)


@torch.no_grad()
def _reads_cache(body: Any, argument: str) -> bool:
    """Return whether all layers of `body` extend a cache of three tokens passed as `argument`.

    XLM and FlauBERT do not: for them the tokens in the cache are a part of the input.
    """
    from transformers import DynamicCache

    used: set[int] = set()

    class Observed(DynamicCache):
        def update(
            self, key_states: Any, value_states: Any, layer_idx: int, *rest: Any, **more: Any
        ) -> Any:
            used.add(layer_idx)
            return super().update(key_states, value_states, layer_idx, *rest, **more)

    cache = Observed(config=body.config)
    try:
        body(**_inputs(3), **{argument: cache})
        used.clear()
        states = body(**_inputs(2, cached=3), **{argument: cache})[0]
    except Exception:  # models raise different exceptions for an argument that they do not support
        return False
    every = set(range(body.config.num_hidden_layers))
    return used == every and states.shape[1] == 2 and cache.get_seq_length() == 5


def pass_prefix(model: Any) -> bool:
    """Make PEFT's prefix tuning work for `model`, whatever its cache argument is called.

    A second call changes nothing and returns the same.

    Returns:
        Whether `model` uses prefix tuning and the installed PEFT cannot run it without this change.
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
    if argument in (None, _PEFT_ARGUMENT):  # PEFT fails for another reason and will report it
        return False
    for module in modules:
        if argument in signature(module.forward).parameters:
            module.forward = _renamed(module.forward, argument)
    return True


@torch.no_grad()
def _runs(model: Any) -> bool:
    """Return whether PEFT can compute the logits of a text of two tokens."""
    training = model.training
    model.eval()
    try:
        model(**_inputs(2, device=model.device))
    except (TypeError, ValueError):  # PEFT: "Model does not support past key values"
        return False
    finally:
        model.train(training)
    return True


def _inputs(
    tokens: int, *, cached: int = 0, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Return the inputs for one text of `tokens` tokens that attends to `cached` tokens."""
    mask = torch.ones(1, cached + tokens, dtype=torch.long, device=device)
    return {"input_ids": mask[:, :tokens], "attention_mask": mask}


def _renamed(forward: Callable[..., Any], argument: str) -> Callable[..., Any]:
    """Return a `forward` that also accepts `argument` under the name that PEFT uses."""

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
