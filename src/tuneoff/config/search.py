"""What a search for settings is asked: the `tune` section of a study, and a trial of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

TRIAL_SEED = 10_000


@dataclass(frozen=True, kw_only=True)
class TuneSpec:
    """Every method gets `trials` trials on the validation rows; the test rows stay closed."""

    trials: int
    """Runs of each method's search, the first one with the settings as the study has them."""
    over: tuple[str, ...] = ("learning_rate",)
    """Settings that vary. A method that lacks one of them spends its trials on the others."""
    ranges: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """By setting, in place of its own range: the least and the greatest number, or the values."""
    rate_factor: float = 10.0
    """Learning rates are looked for from the method's default over this to its default times it."""
    rows: int | None = None
    """Training rows of a trial, each label with its share of them; None: all."""
    prune: bool = True
    """Whether a trial ends early whose scores lie below the median of the finished ones."""
    seed: int = TRIAL_SEED
    """Of all trials and of the sampler; none of the study's."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What makes a run a trial of a search: it never sees the test rows and leaves no model."""

    number: int
    """Place in the search of its method, from 1; plays no part in the answer."""
    floors: tuple[float, ...] = ()
    """By epoch: the trial ends where its best score so far is worse. Empty: it never ends early."""
    rows: int | None = None
    """Training rows that are used, each label with its share of them; None: all."""

    def content(self) -> dict[str, Any]:
        """What decides the answer."""
        return {key: value for key, value in asdict(self).items() if key != "number"}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Trial:
        """As JSON holds it."""
        return Trial(**{**plain, "floors": tuple(plain["floors"])})


def plain_tune(value: Any) -> Any:
    """The `tune` section as a mapping: `8` is 8 trials, and settings may be joined by commas."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"trials": value}
    if not isinstance(value, Mapping):
        return value
    over = value.get("over")
    if not isinstance(over, str):
        return dict(value)
    return {**value, "over": [name.strip() for name in over.split(",") if name.strip()]}


def tune_issues(tune: TuneSpec, seeds: Sequence[int]) -> list[str]:
    """Ranges that the types do not carry."""
    rules = [
        (tune.trials >= 1, "tune.trials must be at least 1"),
        (bool(tune.over), "tune.over must name at least one setting"),
        (len(set(tune.over)) == len(tune.over), "tune.over must name each setting once"),
        (1 < tune.rate_factor < math.inf, "tune.rate_factor must be more than 1"),
        (tune.rows is None or tune.rows >= 2, "tune.rows must be at least 2"),
        (0 <= tune.seed < 2**32, "tune.seed lies in [0, 2^32)"),
        (tune.seed not in seeds, "tune.seed is one of the study's seeds: trials have their own"),
        *(
            (len(values) >= 2, f"tune.ranges.{name} must hold two values at least")
            for name, values in tune.ranges.items()
        ),
        *(
            (name in tune.over, f"tune.ranges.{name}: tune.over does not name {name}")
            for name in tune.ranges
        ),
    ]
    return [text for holds, text in rules if not holds]
