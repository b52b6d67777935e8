"""Search space of a method, and the settings that its search starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tuneoff.config import MethodSpec, StudySpec, TrainSpec, TuneSpec, replace_train
from tuneoff.exceptions import Issue, nearest
from tuneoff.methods import Method, method
from tuneoff.methods.search_ranges import (
    OF_TRAINING,
    Choice,
    Range,
    Span,
    own_ranges,
    searchable,
    varied,
)
from tuneoff.results.summary import NumberRange, ValueRange

Settings = dict[str, Any]


def tuning_issues(study: StudySpec, *, file: str | None = None) -> list[Issue]:
    """Return the issues of the `tune` section of a completed study, which depend on its methods."""
    tune = study.tune
    if tune is None:
        return []
    chosen = [method(entry.method) for entry in study.methods]
    known = {"learning_rate"}.union(*map(searchable, chosen))
    issues = [
        Issue(
            f"tune.over: no method of the study has a searchable setting {name!r}",
            file=file,
            hint=nearest(name, known),
        )
        for name in tune.over
        if name not in known
    ]
    for name, values in tune.ranges.items():
        if not _is_choice(name, chosen) and not _is_span(values):
            text = f"tune.ranges.{name} must be the smallest and the largest number"
            issues.append(Issue(f"{text}, not {list(values)!r}", file=file))
    return issues


def _is_choice(name: str, chosen: list[Method]) -> bool:
    return any(isinstance((own_ranges(m) | OF_TRAINING).get(name), Choice) for m in chosen)


def _is_span(values: tuple[Any, ...]) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return len(values) == 2 and numbers and bool(values[0] < values[1])


def start_of(entry: MethodSpec, study: StudySpec, names: list[str], hidden_size: int) -> Settings:
    """Return the values of the settings `names` in a study's entry, before a search."""
    chosen = method(entry.method)
    train = replace_train(study.train, entry.train)
    values: Mapping[str, Any] = asdict(train) | entry.config
    start = {name: values[name] for name in names}
    if start.get("learning_rate") == "auto":
        start["learning_rate"] = chosen.rate_for(hidden_size)
    return {name: tuple(v) if isinstance(v, list) else v for name, v in start.items()}


def space_of(entry: MethodSpec, study: StudySpec, hidden_size: int) -> dict[str, Range]:
    """Return the range of each setting that the search of an entry varies; it may be empty.

    Default ranges are extended to include the value of the entry; ranges in the study are not.
    """
    assert study.tune is not None
    chosen = method(entry.method)
    names = varied(chosen, study.tune.over)
    start = start_of(entry, study, names, hidden_size)
    own = own_ranges(chosen)
    space: dict[str, Range] = {}
    for name in names:
        default = own.get(name) or _of_training(name, chosen, study.train, study.tune, hidden_size)
        given = study.tune.ranges.get(name)
        space[name] = default.holding(start[name]) if given is None else _given(given, default)
    return space


def _of_training(
    name: str, chosen: Method, train: TrainSpec, tune: TuneSpec, hidden_size: int
) -> Range:
    if name == "learning_rate":
        rate = chosen.rate_for(hidden_size)
        assert rate is not None
        return Span(rate / tune.rate_factor, rate * tune.rate_factor, log=True)
    if name == "epochs":
        return Span(max(1, train.epochs // 2), 2 * train.epochs, whole=True)
    return OF_TRAINING[name]


def _given(values: tuple[Any, ...], default: Range) -> Range:
    if isinstance(default, Choice):
        return Choice(tuple(tuple(v) if isinstance(v, list) else v for v in values))
    return Span(values[0], values[1], default.log and values[0] > 0, default.whole)


def with_settings(entry: MethodSpec, settings: Settings) -> MethodSpec:
    """Return `entry` with these settings."""
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()}
    config = {key: value for key, value in plain.items() if key in entry.config}
    train = {key: value for key, value in plain.items() if key not in entry.config}
    return MethodSpec(
        method=entry.method,
        name=entry.name,
        config=entry.config | config,
        train=entry.train | train,
    )


def range_to_plain(own: Range) -> NumberRange | ValueRange:
    """Return a range as plain values for JSON."""
    if isinstance(own, Choice):
        return {"values": [list(v) if isinstance(v, tuple) else v for v in own.values]}
    return {"low": own.low, "high": own.high, "log": own.log, "whole": own.whole}
