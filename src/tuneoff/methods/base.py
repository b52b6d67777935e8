"""Definition of a method: which weights it trains, and how.

This module does not import torch. The loss is not part of a method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline
    from torch import Tensor, nn

Role = Literal["query", "key", "value", "attention_output", "ffn_in", "ffn_out"]
ROLES: tuple[Role, ...] = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")


class Architecture(Protocol):
    """Properties of an encoder that methods use; see `tuneoff.engine.model.architecture`."""

    @property
    def model_type(self) -> str:
        """Model type, as in the configuration of the model."""

    @property
    def body(self) -> str:
        """Name of the encoder module inside the classification model."""

    @property
    def embeddings(self) -> Sequence[str]:
        """Names of the modules below the first layer."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of the encoder's layers, from the embeddings upward.

        A layer that is applied several times, as in ALBERT, is listed once.
        """

    @property
    def head(self) -> Sequence[str]:
        """Names of the modules that every method trains: the classifier, and the pooler if any."""

    @property
    def norms(self) -> Sequence[str]:
        """Names of the normalisation layers of the body that have weights."""

    def linear(self, role: Role) -> list[str]:
        """Return the names of the linear layers with this role, in all encoder layers."""

    def linears_named(self, end: str) -> list[str]:
        """Return the names of the linear layers in the encoder's layers that end in `end`."""

    def parts_of(self, layer: int) -> Sequence[str]:
        """Return the names of the modules of a layer by its index, usually a single one."""

    def layer_of(self, name: str) -> int | None:
        """Return the index of the layer that contains a module or parameter; None outside of them.

        The name may contain the wrappers of adapters.
        """

    def reads_cache(self, model: nn.Module) -> bool:
        """Return whether every layer of `model` reads keys and values from a given cache."""

    def is_head(self, parameter: str) -> bool:
        """Return whether a parameter is in the head; its name may contain adapter wrappers."""


Apply = Callable[["nn.Module", Architecture, Any], "nn.Module"]
"""`apply(model, architecture, config)` sets which weights of the body are trainable.

It returns the model to train: the same one, or one that wraps it. The engine sets whether the head
is trainable, in the same way for all methods.
"""


@dataclass(frozen=True)
class NoConfig:
    """Config of a method without settings of its own."""


@dataclass(frozen=True)
class ParamGroup:
    """Deviations of one weight from the optimizer settings of the run."""

    rate: float = 1.0
    """Learning rate, as a multiple of the run's."""
    decays: bool | None = None
    """Whether weight decay applies; None: to matrices, but not to vectors and scalars."""
    start: float = 0.0
    """Fraction of the training after which the weight is trained, in [0, 1)."""


class Hook:
    """Callbacks of a method in the training loop. By default they do nothing.

    The argument `weights` has the float32 values of the trainable weights by name, with the
    gradient of the step in `.grad`.
    """

    @property
    def follows_steps(self) -> bool:
        """Whether `after_step` or `penalty` is overridden.

        Such steps are not replayed as CUDA graphs.
        """
        own = type(self)
        return own.after_step is not Hook.after_step or own.penalty is not Hook.penalty

    def begin(self, steps: int) -> None:
        """Prepare for a training with this number of optimizer steps."""

    def penalty(self) -> Tensor | None:
        """Return a scalar that is added to the loss of each step once, or None."""
        return None

    def after_step(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Act after an optimizer step; `weights` may be changed in place.

        This is not called after a step whose gradient overflowed in fp16, which changes nothing.

        Args:
            step: Number of the step, counted from 1.
            weights: The trainable weights by name.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the state of the hook for a checkpoint, by names that the hook chooses."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state that `state` returned."""

    def given_up(self, weights: Mapping[str, Tensor]) -> set[str]:
        """Return the names of weights that the method itself has reset to their initial values."""
        return set()

    def before_save(self, weights: dict[str, Tensor]) -> None:
        """Replace entries of `weights` whose saved values differ from the trained ones."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A fine-tuning method, as it is registered."""

    name: str
    family: str
    summary: str
    """What is trained, in one line that completes the sentence `Trains …`."""
    config: type = NoConfig
    """Frozen dataclass of the method's own settings, each with a default.

    `tuneoff methods NAME` shows its docstring.
    """
    learning_rate: float | None = None
    """Default for a hidden size of 768; None: the method does not use gradient descent."""
    apply: Apply | None = None
    """None: the method has no encoder; see `estimator`."""
    estimator: Callable[[Any, int], Pipeline] | None = None
    """For classical methods: `estimator(config, seed)` returns a scikit-learn pipeline."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Training settings that the method overrides, such as `class_weights`."""
    searched: str = "learning_rate"
    """Setting that a search varies in place of the learning rate."""
    param_group: Callable[[str, Architecture, Any], ParamGroup] | None = None
    """`param_group(name, architecture, config)` returns how a weight of the body is trained."""
    hook: Callable[[nn.Module, Any], Hook] | None = None
    """`hook(model, config)` returns callbacks for the model that `apply` returned."""
    virtual_tokens: Callable[[Any], int] | None = None
    """`virtual_tokens(config)` returns how many positions of each text the method uses up."""
    trains_head: bool = True
    """Whether the head is trained."""
    quantized: bool = False
    """Whether the body is loaded in 4 bits (NF4 of bitsandbytes)."""
    requires: Mapping[str, str] = field(default_factory=dict)
    """Optional packages that it needs, and the extra of tuneoff that installs each."""
    paper: str | None = None
    """Reference for users."""
    limits: str | None = None
    """Limitations for users."""

    def rate_for(self, hidden_size: int) -> float | None:
        """Return the default learning rate for an encoder of this width; None without training.

        A narrower encoder needs a larger rate, because an adaptive step of a given size changes an
        output in proportion to the number of inputs (Yang et al. 2022, Tensor Programs V). The
        square of the ratio and the maximum of 4 are empirical: they fit the usual rates of
        BERT-large (3e-5) and BERT-base (5e-5), and MiniLM on banking77, where one epoch of `full`
        gave a macro-F1 on validation of 0.67 with 1e-4 and 0.77 with 2e-4.
        """
        if self.learning_rate is None:
            return None
        return self.learning_rate * min(4.0, (768 / hidden_size) ** 2)

    def defaults(self) -> dict[str, Any]:
        """Return the method's own settings with their default values."""
        return asdict(self.config())
