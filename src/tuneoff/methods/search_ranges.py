"""Ranges in which a search varies settings, declared in the annotation of the setting.

`rank: Annotated[int, Span(2, 64, log=True)] = 8` is searched from 2 to 64. Settings without a range
cannot be searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from tuneoff.methods.base import Method


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, both inclusive."""

    low: float
    high: float
    log: bool = False
    """Whether the range is searched on a logarithmic scale."""
    whole: bool = False
    """Whether the values are integers."""

    def holding(self, value: Any) -> Span:
        """Return the span, extended to include `value` if necessary."""
        low, high = min(self.low, value), max(self.high, value)
        return Span(low, high, self.log and low > 0, self.whole)

    def __contains__(self, value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class Choice:
    """Unordered values to choose from."""

    values: tuple[Any, ...]

    def holding(self, value: Any) -> Choice:
        """Return the choice, with `value` added if necessary."""
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
"""Ranges of training settings that do not depend on the method or the study."""

BY_RULE = ("learning_rate", "epochs")
"""Training settings whose range depends on the method's default or the study's setting."""


def own_ranges(method: Method) -> dict[str, Range]:
    """Return the ranges of those of a method's own settings that have one."""
    hints: Mapping[str, Any] = get_type_hints(method.config, include_extras=True)
    declared = {
        name: [
            part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Span | Choice)
        ]
        for name, hint in hints.items()
    }
    return {name: ranges[0] for name, ranges in declared.items() if ranges}


def searchable(method: Method) -> set[str]:
    """Return the names of the settings that a search can vary for this method."""
    if method.learning_rate is None:
        return set(own_ranges(method))
    return {*own_ranges(method), *OF_TRAINING, *BY_RULE}


def varied(method: Method, over: tuple[str, ...]) -> list[str]:
    """Return those of the settings `over` that a search varies for this method, in their order.

    If the method has no learning rate, its setting `searched` is varied instead.
    """
    named = [method.searched if name == "learning_rate" else name for name in over]
    known = searchable(method)
    return [name for name in dict.fromkeys(named) if name in known]
