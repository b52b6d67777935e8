"""What a method is: which weights train and how. Torch-free; the loss is apart from it."""

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
    """What a method may ask of an encoder; `tuneoff.engine.model.architecture` derives it."""

    @property
    def model_type(self) -> str:
        """The family, as the model's configuration names it."""

    @property
    def body(self) -> str:
        """Name of the encoder inside the classification model."""

    @property
    def embeddings(self) -> Sequence[str]:
        """Names of the modules below the first layer."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of the encoder's layers, from the embeddings upward; one that is run several times
        (ALBERT) once."""

    @property
    def head(self) -> Sequence[str]:
        """Names of the modules that every method trains: the classifier, and a pooler if any."""

    @property
    def norms(self) -> Sequence[str]:
        """Names of the body's normalisations that have weights."""

    def linear(self, role: Role) -> list[str]:
        """Names of the linear layers that play `role`, over all encoder layers."""

    def linears_named(self, end: str) -> list[str]:
        """Names of the linear layers in the encoder's layers that end in `end`."""

    def parts_of(self, layer: int) -> Sequence[str]:
        """Names of the modules that make up the layer of this index: mostly a single one."""

    def layer_of(self, name: str) -> int | None:
        """Index in `layers` of the one that a module or parameter of this name belongs to, adapter
        wrappers and all; None outside of them."""

    def reads_cache(self, model: nn.Module) -> bool:
        """Whether every layer of `model` reads keys and values from a cache that it is given."""

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter of this name, adapter wrappers and all, belongs to the head."""


Apply = Callable[["nn.Module", Architecture, Any], "nn.Module"]
"""`apply(model, architecture, config)`: sets which weights of the body train, and returns the
model to train: the same one, or one that wraps it. The head is set by the engine, alike for all."""


@dataclass(frozen=True)
class NoConfig:
    """A method without settings of its own."""


@dataclass(frozen=True)
class ParamGroup:
    """How one weight trains beside the others."""

    rate: float = 1.0
    """Its learning rate as a multiple of the run's."""
    decays: bool | None = None
    """Whether it has weight decay; None: matrices have, vectors and scalars have not."""
    start: float = 0.0
    """Share of the training that passes before it begins to train."""


class Hook:
    """What a method does beside the plain loop; what is not overridden does nothing.

    `weights` are the float32 values of what trains, by name, with the step's gradient in `.grad`.
    """

    @property
    def follows_steps(self) -> bool:
        """Whether `after_step` or `penalty` is overridden; such steps are not replayed as CUDA
        graphs."""
        own = type(self)
        return own.after_step is not Hook.after_step or own.penalty is not Hook.penalty

    def begin(self, steps: int) -> None:
        """The training is about to take so many optimizer steps."""

    def penalty(self) -> Tensor | None:
        """A scalar that is added to each step's loss, once."""
        return None

    def after_step(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Optimizer step number `step`, counted from 1, is done; `weights` may be changed.

        Not called after a step that changed nothing, because its gradient overflowed in fp16.
        """

    def state(self) -> dict[str, Tensor]:
        """What later steps depend on, for a checkpoint; by names of the hook's own choice."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""

    def given_up(self, weights: Mapping[str, Tensor]) -> set[str]:
        """Names of weights that the method itself has put back to where they began."""
        return set()

    def before_save(self, weights: dict[str, Tensor]) -> None:
        """`weights` are about to be saved; replace in it what is to be saved otherwise."""


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
    searched: str = "learning_rate"
    """The setting that a search varies where others vary their learning rate."""
    param_group: Callable[[str, Architecture, Any], ParamGroup] | None = None
    """`param_group(name, architecture, config)`: how the body's weight of that name trains."""
    hook: Callable[[nn.Module, Any], Hook] | None = None
    """`hook(model, config)`: what to do beside the plain loop, for the model that `apply` gave."""
    virtual_tokens: Callable[[Any], int] | None = None
    """`virtual_tokens(config)`: positions that the method takes from each text's."""
    trains_head: bool = True
    quantized: bool = False
    """Whether the body is loaded in 4 bits (bitsandbytes NF4)."""
    requires: Mapping[str, str] = field(default_factory=dict)
    """Optional packages that it needs, and the extra of tuneoff that brings each."""
    paper: str | None = None
    limits: str | None = None

    def rate_for(self, hidden_size: int) -> float | None:
        """Default learning rate for an encoder of this width; None where nothing is trained.

        A narrower encoder takes larger steps, because an adaptive step of a given size moves an
        output by as much as there are inputs (Yang et al. 2022, Tensor Programs V). The square, at
        most 4, is empirical: it fits the rates in use for BERT-large (3e-5) and BERT-base (5e-5),
        and MiniLM on banking77, where after one epoch of `full` 1e-4 gave 0.67 macro-F1 on
        validation and 2e-4 gave 0.77.
        """
        if self.learning_rate is None:
            return None
        return self.learning_rate * min(4.0, (768 / hidden_size) ** 2)

    def defaults(self) -> dict[str, Any]:
        """The method's own settings with their default values."""
        return asdict(self.config())
