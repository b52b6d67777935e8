"""Selection of the linear layers that get an adapter, by role or name and by encoder layer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated

from tuneoff.exceptions import BadInput, nearest
from tuneoff.methods.base import ROLES, Architecture
from tuneoff.methods.search_ranges import Choice

TARGETS = Choice((("query", "value"), ("query", "key", "value"), ROLES))
LAYERS = Choice(("all", "last 2", "first 2"))
_LAYERS = re.compile(r"all|(?:first|last) [1-9]\d*|\d+(?:-\d+)?(?:, *\d+(?:-\d+)?)*")


@dataclass(frozen=True, kw_only=True)
class Targeted:
    """Settings that select the linear layers which get an adapter.

    `targets` are roles of linear layers, or ends of their module names. `layers` is "all", "last
    2", "first 2", "0-3" or "0,2,5"; layer 0 is next to the embeddings.
    """

    targets: Annotated[tuple[str, ...], TARGETS] = ROLES
    layers: Annotated[str | int, LAYERS] = "all"

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets must name at least one role")
        for target in self.targets:
            # Other names may be modules, which are unknown without the model; a name that is almost
            # a role is a typing error.
            if target not in ROLES and get_close_matches(target, ROLES, n=1, cutoff=0.75):
                raise ValueError(f"targets: {target!r} is not a role. {nearest(target, ROLES)}")
        if not _LAYERS.fullmatch(str(self.layers)):
            raise ValueError(
                f"layers must be 'all', 'last 2', 'first 2', '0-3' or '0,2,5', not {self.layers!r}"
            )


def chosen_layers(architecture: Architecture, layers: str | int) -> list[int]:
    """Return the indices of the selected layers.

    Raises:
        BadInput: The encoder does not have one of the layers.
    """
    depth, text = len(architecture.layers), str(layers)
    if text == "all":
        return list(range(depth))
    word, _, count = text.partition(" ")
    if word in ("first", "last"):
        if int(count) > depth:
            raise BadInput(f"layers is {text!r}, but {described(architecture)}")
        return list(range(depth))[-int(count) :] if word == "last" else list(range(int(count)))
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        chosen |= set(range(int(first), int(last or first) + 1))
    if not chosen or max(chosen) >= depth:
        raise BadInput(f"layers is {text!r}, but {described(architecture)}, counted from 0")
    return sorted(chosen)


def described(architecture: Architecture) -> str:
    """Return the number of layers of an encoder as a clause for messages."""
    depth = len(architecture.layers)
    layers = f"{depth} layers" if depth > 1 else "1 layer that is applied repeatedly"
    return f"the {architecture.model_type} encoder has {layers}"


def linears_of(architecture: Architecture, target: str) -> list[str]:
    """Return the names of the linear layers with a role, or whose name ends in `target`.

    Raises:
        BadInput: There are no such layers.
    """
    if target in ROLES:
        return architecture.linear(target)
    names = architecture.linears_named(target)
    if not names:
        ends = {name.rsplit(".", 1)[-1] for name in architecture.linears_named("")}
        raise BadInput(
            f"targets: {target!r} is neither a role nor a linear layer of this model",
            hint=nearest(target, {*ROLES, *ends}),
        )
    return names


def chosen_linears(architecture: Architecture, config: Targeted) -> list[str]:
    """Return the names of the linear layers that `config` selects, from the embeddings upward.

    Raises:
        BadInput: A target or layer does not exist, or none of the targets is in the layers.
    """
    layers = chosen_layers(architecture, config.layers)
    names = {
        name: None
        for target in config.targets
        for name in linears_of(architecture, target)
        if architecture.layer_of(name) in layers
    }
    if not names:
        raise BadInput(f"no linear layer of {', '.join(config.targets)} is in layers {layers}")
    return sorted(names, key=lambda name: architecture.layer_of(name) or 0)
