"""Description of settings: help text, command-line option and range, in a field's annotation.

    epochs: Annotated[int, Setting("Number of training epochs.", "--epochs", ge=1)] = 3

defines a setting completely. The command line, the reference page of the study file and the checks
of ranges are derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Setting:
    """Description of one field of a dataclass of settings.

    The bounds `ge`, `gt`, `le` and `lt` apply to numbers (greater or equal, greater, less or equal,
    less); other values of the field, such as "auto" or None, have no range.
    """

    help: str
    """One sentence or more; the first one is the help text of the command-line option."""
    flag: str | None = None
    """Command-line option; None: the setting can only be given in a study file or from Python."""
    default: str | None = None
    """Description of the default, if the field's value does not show it."""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    finite: bool = True
    """Whether a number with a bound must be finite."""
    unit: str | None = None
    """Unit that a value may be given in: `bytes` or `seconds`."""

    def rule(self, value: Any) -> str | None:
        """Return the broken rule, such as `must be at least 1`, or None if `value` is valid."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.range:
            return None
        holds = (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
            and (math.isfinite(value) or not self.finite)
        )
        return None if holds else self.range

    @property
    def range(self) -> str:
        """The bounds as a rule, such as `must lie in [0, 1)`; empty without bounds."""
        low = self.ge if self.ge is not None else self.gt
        high = self.le if self.le is not None else self.lt
        if low is not None and high is not None:
            first = "[" if self.ge is not None else "("
            last = "]" if self.le is not None else ")"
            return f"must lie in {first}{low:g}, {high:g}{last}"
        if low == 0:
            return "must not be negative" if self.ge is not None else "must be positive"
        if low is not None:
            return f"must be {'at least' if self.ge is not None else 'more than'} {low:g}"
        if high is not None:
            return f"must be {'at most' if self.le is not None else 'less than'} {high:g}"
        return ""


@dataclass(frozen=True)
class DescribedField:
    """A field of a dataclass of settings."""

    name: str
    type: Any
    """Its type, without the annotation."""
    setting: Setting
    field: Field[Any]

    @property
    def default(self) -> str:
        """The default as text; empty for a required setting."""
        if self.setting.default is not None:
            return self.setting.default
        value = self.field.default
        if value is MISSING:
            return ""
        if value is None:
            return ""
        return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def settings(cls: Any) -> tuple[DescribedField, ...]:
    """Return the described fields of a dataclass, in their order."""
    return tuple(_settings(cls))


def _settings(cls: Any) -> Iterator[DescribedField]:
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        hint = hints[field.name]
        if get_origin(hint) is Annotated:
            kind, *extras = get_args(hint)
            for extra in extras:
                if isinstance(extra, Setting):
                    yield DescribedField(field.name, kind, extra, field)


def broken_rules(section: Any, where: str) -> list[str]:
    """Return the range of each field that breaks it, after its name: `train.epochs must be …`.

    Args:
        section: An instance of a dataclass of settings.
        where: Text before each name, such as `train.`.
    """
    described = settings(type(section))  # type: ignore[arg-type]
    checked = ((f.name, f.setting.rule(getattr(section, f.name))) for f in described)
    return [f"{where}{name} {rule}" for name, rule in checked if rule]
