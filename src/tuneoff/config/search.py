"""Specification of a search for settings: the `tune` section of a study, and a single trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from tuneoff.config.setting import Setting, broken_rules

TRIAL_SEED = 10_000
"""Default random seed of trials."""


@dataclass(frozen=True, kw_only=True)
class TuneSpec:
    """Search for settings: equally many trials of each method, scored on the validation rows."""

    trials: Annotated[
        int,
        Setting("Number of trials of each method. The first has the study's own settings.", ge=1),
    ]
    over: Annotated[
        tuple[str, ...],
        Setting(
            "Settings that the trials vary, separated by commas. A method without one of them uses"
            " its trials for the others.",
            "--tune-over",
            "learning_rate",
        ),
    ] = ("learning_rate",)
    ranges: Annotated[
        dict[str, tuple[Any, ...]],
        Setting(
            "Ranges by setting: the smallest and largest number, or the values.",
            default="each setting's own",
        ),
    ] = field(default_factory=dict)
    rate_factor: Annotated[
        float,
        Setting(
            "Learning rates are searched from the method's default divided by this factor to the"
            " default times it.",
            gt=1,
        ),
    ] = 10.0
    rows: Annotated[
        int | None,
        Setting(
            "Number of training rows of a trial, a stratified subsample.",
            "--tune-rows",
            "all",
            ge=2,
        ),
    ] = None
    prune: Annotated[
        bool,
        Setting("Whether to stop trials whose scores are below the median of the finished ones."),
    ] = True
    seed: Annotated[
        int,
        Setting(
            "Random seed of all trials and of the sampler; not one of the study's seeds.", ge=0
        ),
    ] = TRIAL_SEED


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Marks a run as a trial of a search. A trial never reads the test rows and saves no model."""

    number: int
    """Number of the trial in the search of its method, from 1. It does not change the result."""
    floors: tuple[float, ...] = ()
    """Pruning threshold of each epoch: the trial stops if its best score so far is worse."""
    rows: int | None = None
    """Number of training rows, a stratified subsample; None: all."""

    def content(self) -> dict[str, Any]:
        """Return the part that decides the result."""
        return {key: value for key, value in asdict(self).items() if key != "number"}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Trial:
        """Read a trial from plain JSON values."""
        return Trial(**{**plain, "floors": tuple(plain["floors"])})


def plain_tune(value: Any) -> Any:
    """Return the `tune` section as a mapping: `8` means 8 trials, and `over` may be a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"trials": value}
    if not isinstance(value, Mapping):
        return value
    over = value.get("over")
    if not isinstance(over, str):
        return dict(value)
    return {**value, "over": [name.strip() for name in over.split(",") if name.strip()]}


def tune_issues(tune: TuneSpec, seeds: Sequence[int]) -> list[str]:
    """Return the broken rules of a `tune` section."""
    rules = [
        (bool(tune.over), "tune.over must name at least one setting"),
        (len(set(tune.over)) == len(tune.over), "tune.over must name each setting once"),
        (tune.seed < 2**32, "tune.seed must be less than 2^32"),
        (tune.seed not in seeds, "tune.seed must not be one of the study's seeds"),
        *(
            (len(values) >= 2, f"tune.ranges.{name} must have at least two values")
            for name, values in tune.ranges.items()
        ),
        *(
            (name in tune.over, f"tune.ranges.{name}: {name} is not in tune.over")
            for name in tune.ranges
        ),
    ]
    return broken_rules(tune, "tune.") + [text for holds, text in rules if not holds]
