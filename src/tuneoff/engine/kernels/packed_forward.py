"""Forward pass without padding, on one row of real tokens.

The layers of Transformers run on one row (1, tokens, hidden) that contains all texts of a batch.
All operations except attention treat tokens independently, so only attention needs the boundaries
of the texts: `attention.packed_attention`, registered as `PACKED`, gets the `Packing` of the batch
through the keyword arguments that the layers pass on. No mask is built, because Transformers would
build it without the boundaries, and the texts would silently attend to each other.
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
    """Register `PACKED` with Transformers, with a function that builds no mask."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def choose_padding(
    model: nn.Module, architecture: EncoderArchitecture, computes_in: torch.dtype = torch.float32
) -> Padding | None:
    """Return the padding that the model needs, or None if it can run on packed rows.

    Args:
        model: The model as a method changed it, before its weights are rounded.
        architecture: Description of the model.
        computes_in: Type of the matrix products; not float32 only for a quantised model.
    """
    # The code of PEFT that prepends virtual tokens handles padded batches only.
    if architecture.packed_head is not None and not has_virtual_tokens(model):
        return None
    pass_prefix(model)
    return find_padding(model, unwrapped(model), SAME[computes_in])


class Classifier(nn.Module):
    """A classification model that runs on a `Batch`: packed if its family allows it, or padded."""

    def __init__(
        self, model: nn.Module, architecture: EncoderArchitecture, padding: Padding | None
    ) -> None:
        """`padding` is the result of `choose_padding` for `model`."""
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.padding = padding
        inner = unwrapped(model)
        self.packs = padding is None
        if self.packs:
            register()
            inner.config._attn_implementation = PACKED
        # The head computes in float32. It is a thousandth of the work, and logits rounded to bf16
        # would have ties.
        for name in architecture.head:
            inner.get_submodule(name).register_forward_pre_hook(_to_float32)
        # Whether only tuneoff can run the model's prefix; see `pass_prefix`.
        self.passes_prefix = pass_prefix(model)

        self.has_fixed_shapes = self.packs
        """Whether all shapes of a forward pass depend only on the size of the packed row, as they
        do if attention uses offsets of the texts. Known after the first forward pass."""
        self._given: Tensor | None = None
        self._frozen: list[nn.Module] = []
        self._packing: Packing | None = None
        self._last: frozenset[nn.Module] = frozenset()
        if self.packs and architecture.parting is not None:
            self._last = frozenset(inner.get_submodule(architecture.layers[-1]).modules())
            inner.get_submodule(architecture.parting).register_forward_pre_hook(self._part)

    @property
    def parts_tokens(self) -> bool:
        """Whether the last layer computes only the first token of each text after attention."""
        return bool(self._last)

    def train(self, mode: bool = True) -> Classifier:
        """As in PyTorch, but the frozen lower layers stay in evaluation mode.

        Their states are then the same in each epoch.
        """
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def freeze_below(self, layers: int) -> None:
        """Disable dropout in the embeddings and the lowest `layers` layers."""
        inner = unwrapped(self.model)
        names = (*self.architecture.embeddings, *self.architecture.layers[:layers])
        self._frozen = [inner.get_submodule(name) for name in names]

    def start_above(self, layers: int) -> None:
        """Start at layer `layers` for a batch that has the states below this layer."""
        inner = unwrapped(self.model)
        embeddings, *projections = self.architecture.embeddings
        _instead(inner.get_submodule(embeddings), lambda *_, **__: self._given, self)
        for name in (*projections, *self.architecture.layers[:layers]):
            _instead(inner.get_submodule(name), lambda states, *_, **__: states, self)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits (texts, labels) in float32, in the order of the texts in the batch."""
        return self._packed(batch) if self.packs else self._padded(batch)

    def states_below(self, batch: Batch, layers: int) -> Tensor:
        """Return the input of layer `layers`, (tokens, hidden).

        If `layers` is the number of layers, return the output of the last one for the first token
        of each text, (texts, hidden).
        """
        inner = unwrapped(self.model)
        if layers == len(self.architecture.layers):
            return self._first(batch)
        states: list[Tensor] = []

        def stop(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            states.append(inputs[0])
            raise _Reached

        hook = inner.get_submodule(self.architecture.layers[layers]).register_forward_pre_hook(stop)
        try:
            self._first(batch)
        except _Reached:
            pass
        finally:
            hook.remove()
        return states[0][0, : batch.tokens]

    def _packed(self, batch: Batch) -> Tensor:
        assert self.architecture.packed_head is not None
        inner = unwrapped(self.model)
        if batch.states is not None and len(batch.states) == len(batch.lengths):
            # Output of the last layer for first tokens; input of a layer would be longer, because
            # every text has more than one token.
            first = batch.states[:, None]
        else:
            first = self._first(batch)[:, None]
        return self.architecture.packed_head(inner, first).float()

    def _first(self, batch: Batch) -> Tensor:
        """Return the output of the last layer for the first token of each text, (texts, hidden)."""
        inner = unwrapped(self.model)
        packing = packing_of(batch, self._last)
        inputs = {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids + self.architecture.first_position,
        }
        if batch.token_type_ids is not None:
            inputs["token_type_ids"] = batch.token_type_ids
        size = batch.tokens + packing.spare
        inputs = {name: _filled(x, size)[None] for name, x in inputs.items()}
        if batch.states is not None:
            self._given = _filled(batch.states, size)[None]
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
        """Continue with only the first token of each text; the head uses no other."""
        if self._packing is None:
            return None
        parted = self._packing.parted
        return tuple(states.index_select(1, parted) for states in inputs)

    def _padded(self, batch: Batch) -> Tensor:
        assert self.padding is not None
        parts = padded_inputs(unwrapped(self.model), batch, self.padding)
        return torch.cat([self.model(**inputs).logits.float() for inputs in parts])


def packing_of(batch: Batch, last: frozenset[nn.Module]) -> Packing:
    """Return the layout of `batch`.

    `last` has the modules of the layer after which only the first token of each text is used.
    """
    device = batch.input_ids.device
    if batch.offsets is None:
        return Packing(batch.lengths, device, last)
    spare = len(batch.input_ids) - batch.tokens
    return Packing(batch.lengths, device, last, batch.offsets, spare, batch.bound)


def _filled(x: Tensor, size: int) -> Tensor:
    """Pad `x` (tokens, …) with zeros to a length of `size`."""
    missing = size - len(x)
    return F.pad(x, (*[0, 0] * (x.dim() - 1), 0, missing)) if missing else x


class _Reached(Exception):
    """Ends a forward pass as soon as the requested states are computed."""


def _instead(module: nn.Module, given: Callable[..., Any], classifier: Classifier) -> None:
    """Replace `module` by the function `given` while the batch has precomputed states."""
    original = module.forward

    def forward(*inputs: Any, **more: Any) -> Any:
        return (original if classifier._given is None else given)(*inputs, **more)

    module.forward = forward


def _to_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
    )


def unwrapped(model: nn.Module) -> Any:
    """Return the Transformers model inside a PEFT wrapper, or the model itself."""
    if not hasattr(model, "peft_config"):
        return model
    base: Any = model.base_model
    return base.model if hasattr(base, "inject_adapter") else base


def has_virtual_tokens(model: nn.Module) -> bool:
    """Return whether PEFT prepends virtual tokens to each text of `model`."""
    configs = getattr(model, "peft_config", {}).values()
    return any(config.is_prompt_learning for config in configs)
