"""What a method is: which weights train and how. Torch-free; the loss is apart from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline
    from torch import nn

Role = Literal["query", "key", "value", "attention_output", "ffn_in", "ffn_out"]
ROLES: tuple[Role, ...] = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")


class Architecture(Protocol):
    """What a method may ask of an encoder; `tuneoff.model.architecture` derives it."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of the encoder's layers, from the embeddings upward."""

    @property
    def body(self) -> str:
        """Name of the encoder inside the classification model."""

    @property
    def head(self) -> Sequence[str]:
        """Names of the modules that every method trains: the classifier, and a pooler if any."""

    def linear(self, role: Role) -> list[str]:
        """Names of the linear layers that play `role`, over all encoder layers."""


Apply = Callable[["nn.Module", Architecture, Any], "nn.Module"]
"""`apply(model, architecture, config)`: sets which weights of the body train, and returns the
model to train: the same one, or one that wraps it. The head is set by the engine, alike for all."""


@dataclass(frozen=True)
class NoConfig:
    """A method without settings of its own."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to fine-tune, as it is registered."""

    name: str
    family: str
    summary: str
    """What trains, in one line."""
    config: type = NoConfig
    """A frozen dataclass of the method's own settings, each with a default."""
    learning_rate: float | None = None
    """Default for a hidden size of 768; None: nothing is trained by gradient descent."""
    apply: Apply | None = None
    """None: there is no encoder to train, see `estimator`."""
    estimator: Callable[[Any, int], Pipeline] | None = None
    """For classical methods: `estimator(config, seed)` gives scikit-learn's text pipeline."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Training settings in which the method departs from the study's, `class_weights` say."""
    trains_head: bool = True
    quantized: bool = False
    """Whether the body is loaded in 4 bits (bitsandbytes NF4)."""
    requires: Mapping[str, str] = field(default_factory=dict)
    """Optional packages that it needs, and the extra of tuneoff that brings each."""
    paper: str | None = None
    limits: str | None = None

    def defaults(self) -> dict[str, Any]:
        """The method's own settings with their default values."""
        return {f.name: f.default for f in fields(self.config)}
