"""The forward pass without padding: one row of real tokens, and attention that knows its texts.

Transformers' own layers run on a row (1, tokens, hidden) into which all texts of a batch are
joined. Everything but attention treats tokens one by one, so only attention must be told where
texts end: `attention.packed_attention`, registered under the name `PACKED`, gets the batch's
`Packing` through the keyword arguments that the layers hand down. No mask is built: Transformers
would build it without the texts' borders and mix them silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuneoff.engine.kernels.attention import packed_attention
from tuneoff.engine.kernels.packing import Packing
from tuneoff.engine.model.architecture import EncoderArchitecture
from tuneoff.engine.model.kv_cache import pass_prefix
from tuneoff.engine.model.padding import SAME, Padding, find_padding, padded_inputs

if TYPE_CHECKING:
    from tuneoff.engine.data.batches import Batch

PACKED = "tuneoff_packed"


def register() -> None:
    """Make `PACKED` known to Transformers, with a mask builder that builds none."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def choose_padding(
    model: nn.Module, architecture: EncoderArchitecture, computes_in: torch.dtype = torch.float32
) -> Padding | None:
    """Return how the texts of a batch are joined: without padding (None), or with which.

    Args:
        model: The model with what a method added, before its weights are rounded.
        architecture: Description of the model.
        computes_in: Type of the products, other than float32 for a quantised model alone.
    """
    # PEFT puts virtual tokens before a padded batch; a packed row never meets its code.
    if architecture.packed_head is not None and not has_virtual_tokens(model):
        return None
    pass_prefix(model)
    return find_padding(model, unwrapped(model), SAME[computes_in])


class Classifier(nn.Module):
    """A classification model that takes `Batch`es: packed where its family can be, else padded."""

    def __init__(
        self, model: nn.Module, architecture: EncoderArchitecture, padding: Padding | None
    ) -> None:
        """`padding` is what `choose_padding` returned for `model`."""
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.padding = padding
        inner = unwrapped(model)
        self.packs = padding is None
        if self.packs:
            register()
            inner.config._attn_implementation = PACKED
        # The head computes in float32: it is a thousandth of the work, and logits rounded to bf16
        # tie where they should rank.
        for name in architecture.head:
            inner.get_submodule(name).register_forward_pre_hook(_to_float32)
        # Whether only tuneoff can run this prefix; see `pass_prefix`.
        self.passes_prefix = pass_prefix(model)

        self.has_fixed_shapes = self.packs
        """Whether shapes in a forward pass depend on the size of the packed row alone, as they do
        where attention takes its texts by offsets; known once a pass has been made."""
        self._given: Tensor | None = None
        self._frozen: list[nn.Module] = []
        self._packing: Packing | None = None
        self._last: frozenset[nn.Module] = frozenset()
        if self.packs and architecture.parting is not None:
            self._last = frozenset(inner.get_submodule(architecture.layers[-1]).modules())
            inner.get_submodule(architecture.parting).register_forward_pre_hook(self._part)

    @property
    def parts_tokens(self) -> bool:
        """Whether the last layer goes on with the texts' first tokens alone."""
        return bool(self._last)

    def train(self, mode: bool = True) -> Classifier:
        """As PyTorch's, but that the frozen prefix drops nothing, the same in each epoch."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def freeze_below(self, layers: int) -> None:
        """Keep dropout out of the embeddings and the lowest `layers` layers."""
        inner = unwrapped(self.model)
        names = (*self.architecture.embeddings, *self.architecture.layers[:layers])
        self._frozen = [inner.get_submodule(name) for name in names]

    def start_above(self, layers: int) -> None:
        """Where a batch brings the states below layer `layers`, begin with them."""
        inner = unwrapped(self.model)
        embeddings, *projections = self.architecture.embeddings
        _instead(inner.get_submodule(embeddings), lambda *_, **__: self._given, self)
        for name in (*projections, *self.architecture.layers[:layers]):
            _instead(inner.get_submodule(name), lambda states, *_, **__: states, self)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (texts, labels) in float32, in the order of the batch's texts."""
        return self._packed(batch) if self.packs else self._padded(batch)

    def states_below(self, batch: Batch, layers: int) -> Tensor:
        """(tokens, hidden) what layer `layers` gets; with all layers (texts, hidden), what the last
        one gives for the first tokens."""
        inner = unwrapped(self.model)
        if layers == len(self.architecture.layers):
            return self._first(batch)
        found: list[Tensor] = []

        def stop(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.append(inputs[0])
            raise _Reached

        hook = inner.get_submodule(self.architecture.layers[layers]).register_forward_pre_hook(stop)
        try:
            self._first(batch)
        except _Reached:
            pass
        finally:
            hook.remove()
        return found[0][0, : batch.tokens]

    def _packed(self, batch: Batch) -> Tensor:
        assert self.architecture.packed_head is not None
        inner = unwrapped(self.model)
        if batch.states is not None and len(batch.states) == len(batch.lengths):
            # The last layer's, of first tokens alone: no text is one token short.
            first = batch.states[:, None]
        else:
            first = self._first(batch)[:, None]
        return self.architecture.packed_head(inner, first).float()

    def _first(self, batch: Batch) -> Tensor:
        """(texts, hidden) the last layer's states of the first tokens."""
        inner = unwrapped(self.model)
        packing = packing_of(batch, self._last)
        inputs = {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids + self.architecture.first_position,
        }
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        places = batch.tokens + packing.spare
        inputs = {name: _filled(x, places)[None] for name, x in inputs.items()}
        if batch.states is not None:
            self._given = _filled(batch.states, places)[None]
        self._packing = packing
        body = inner.get_submodule(self.architecture.body)
        try:
            states: Tensor = body(**inputs, packing=packing)[0].squeeze(0)
        finally:
            self._given = self._packing = None
        if packing.is_grouped:
            self.has_fixed_shapes = False
        texts = len(batch.lengths)
        return states[:texts] if self._last else states.index_select(0, packing.starts[:texts])

    def _part(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Go on with the first tokens alone: the head reads no other."""
        if self._packing is None:
            return None
        parted = self._packing.parted
        return tuple(states.index_select(1, parted) for states in inputs)

    def _padded(self, batch: Batch) -> Tensor:
        assert self.padding is not None
        parts = padded_inputs(unwrapped(self.model), batch, self.padding)
        return torch.cat([self.model(**inputs).logits.float() for inputs in parts])


def packing_of(batch: Batch, last: frozenset[nn.Module]) -> Packing:
    """Where the texts of `batch` lie; `last`: the modules of the layer whose first tokens count."""
    device = batch.input_ids.device
    if batch.offsets is None:
        return Packing(batch.lengths, device, last)
    spare = len(batch.input_ids) - batch.tokens
    return Packing(batch.lengths, device, last, batch.offsets, spare, batch.bound)


def _filled(x: Tensor, places: int) -> Tensor:
    """`x` (tokens, …) with zeros behind it up to `places`."""
    missing = places - len(x)
    return F.pad(x, (*[0, 0] * (x.dim() - 1), 0, missing)) if missing else x


class _Reached(Exception):
    """The states that were asked for are there."""


def _instead(module: nn.Module, given: Callable[..., Any], classifier: Classifier) -> None:
    """Let `module` give what `given` does while the batch has states, else what it always gave."""
    own = module.forward

    def forward(*inputs: Any, **more: Any) -> Any:
        return (own if classifier._given is None else given)(*inputs, **more)

    module.forward = forward


def _to_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
    )


def unwrapped(model: nn.Module) -> Any:
    """The Transformers model inside a PEFT wrapper, or the model itself."""
    if not hasattr(model, "peft_config"):
        return model
    base: Any = model.base_model
    return base.model if hasattr(base, "inject_adapter") else base


def has_virtual_tokens(model: nn.Module) -> bool:
    """Whether PEFT puts virtual tokens before each text of `model`."""
    configs = getattr(model, "peft_config", {}).values()
    return any(config.is_prompt_learning for config in configs)
