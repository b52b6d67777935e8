"""Bottleneck adapters: a down-projection, a non-linearity and an up-projection in each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tuneoff.methods.base import Architecture, Method, Role
from tuneoff.methods.search_ranges import Span
from tuneoff.methods.targets import LAYERS, chosen_layers

if TYPE_CHECKING:
    from torch import Tensor, nn

_PLACES: dict[str, tuple[Role, ...]] = {
    "houlsby": ("attention_output", "ffn_out"),
    "pfeiffer": ("ffn_out",),
}


@dataclass(frozen=True, kw_only=True)
class BottleneckConfig:
    """Settings of bottleneck adapters.

    `placement` is "houlsby" for adapters after the attention and the feed-forward, or "pfeiffer"
    for adapters after the feed-forward only. `size` is the number of units of the bottleneck.
    `layers` is as for `lora`.
    """

    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    size: Annotated[int, Span(8, 256, log=True, whole=True)] = 48
    layers: Annotated[str | int, LAYERS] = "all"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size must be at least 1")


def apply(model: nn.Module, architecture: Architecture, config: BottleneckConfig) -> nn.Module:
    """Add a block after the last linear layer of attention and feed-forward, before the residual.

    A block adds its output to its input. The up-projection starts at 0, so the model is unchanged
    at first.
    """
    model.requires_grad_(False)
    layers = chosen_layers(architecture, config.layers)
    for role in _PLACES[config.placement]:
        for name in architecture.linear(role):
            if architecture.layer_of(name) in layers:
                _attach(model.get_submodule(name), config.size)
    return model


def _attach(linear: Any, size: int) -> None:
    from torch import nn

    kind = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    if not kind["dtype"].is_floating_point:  # a quantised layer
        kind["dtype"] = None
    width = linear.out_features
    down, up = nn.Linear(width, size, **kind), nn.Linear(size, width, **kind)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)
    linear.bottleneck = nn.Sequential(down, nn.GELU(), up)
    linear.register_forward_hook(_through)


def _through(linear: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    added: Tensor = linear.bottleneck(output)
    return output + added


ADAPTER = Method(
    name="adapter",
    family="adapters",
    summary="bottleneck blocks after the attention and the feed-forward of each layer",
    config=BottleneckConfig,
    learning_rate=5e-4,
    apply=apply,
    paper="Houlsby et al. 2019, https://arxiv.org/abs/1902.00751;"
    " Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247",
    limits="PEFT has no such adapter: the saved model can be opened with tuneoff.load only, and"
    " cannot be merged",
)
