"""Where a search looks for a setting's value: stands beside the setting, in its annotation.

`rank: Annotated[int, Span(2, 64, log=True)] = 8` is searched from 2 to 64. Settings without a range
are not searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from tuneoff.methods.base import Method


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, both of them included."""

    low: float
    high: float
    log: bool = False
    """Whether a factor counts alike everywhere, and not a difference."""
    whole: bool = False
    """Whole numbers alone."""

    def holding(self, value: Any) -> Span:
        """The span, stretched as far as it takes to hold `value`."""
        low, high = min(self.low, value), max(self.high, value)
        return Span(low, high, self.log and low > 0, self.whole)

    def __contains__(self, value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class Choice:
    """Some values to choose from, without an order."""

    values: tuple[Any, ...]

    def holding(self, value: Any) -> Choice:
        """The choice, with `value` among its values."""
        return self if value in self else Choice((*self.values, value))

    def __contains__(self, value: object) -> bool:
        return value in self.values


Range = Span | Choice

DROPOUT = Span(0.0, 0.3)
RANK = Span(2, 64, log=True, whole=True)

OF_TRAINING: dict[str, Range] = {
    "batch_size": Choice((8, 16, 32)),
    "weight_decay": Span(0.0, 0.2),
    "warmup_ratio": Span(0.0, 0.3),
    "label_smoothing_factor": Span(0.0, 0.2),
}
"""Of the training settings whose range does not depend on the method or the study."""

BY_RULE = ("learning_rate", "epochs")
"""Training settings whose range is made from the method's default or the study's setting."""


def own_ranges(method: Method) -> dict[str, Range]:
    """The ranges of a method's own settings, as far as they have any."""
    hints: Mapping[str, Any] = get_type_hints(method.config, include_extras=True)
    found = {
        name: [
            part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Span | Choice)
        ]
        for name, hint in hints.items()
    }
    return {name: ranges[0] for name, ranges in found.items() if ranges}


def searchable(method: Method) -> set[str]:
    """Names of the settings that a search can vary for this method."""
    if method.learning_rate is None:
        return set(own_ranges(method))
    return {*own_ranges(method), *OF_TRAINING, *BY_RULE}


def varied(method: Method, over: tuple[str, ...]) -> list[str]:
    """Which settings a search over `over` varies for this method, in that order.

    In place of a learning rate that it lacks, a method has a setting of its own (`searched`).
    """
    named = [method.searched if name == "learning_rate" else name for name in over]
    known = searchable(method)
    return [name for name in dict.fromkeys(named) if name in known]
