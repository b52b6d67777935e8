"""From what a user asks to the runs of a study: methods x seeds, every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tuneoff.config import (
    STUDY_WIDE,
    MethodSpec,
    RunSpec,
    StudySpec,
    TrainSpec,
    draft_study,
    replace_train,
)
from tuneoff.exceptions import Issue, IssueList, nearest
from tuneoff.methods import check_installed, config_to_plain, method, parse_config
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.scheduling import Prepared

_METRICS_MEANT = {"f1": "macro_f1", "f1_macro": "macro_f1", "f1_weighted": "weighted_f1"}
"""scikit-learn's names of metrics, for a hint."""

DEFAULT_METHODS = ("tfidf", "head", "partial", "full", "lora")
"""Of a study that names none."""


def asked_study(content: Mapping[str, Any], *, file: str | None = None) -> StudySpec:
    """The completed study that nested plain values ask for, as a study file holds them.

    Raises `BadInput` with all that is wrong with them, the methods' settings included.
    """
    study, issues = draft_study(content, file=file)
    found = IssueList(issues)
    with found.collecting():
        study = complete(study, file=file)
    found.raise_any()
    return study


def complete(study: StudySpec, *, file: str | None = None) -> StudySpec:
    """`study` with every method's settings filled in, and `DEFAULT_METHODS` if it names none.

    Raises `BadInput` for unknown methods, settings or metrics, all of them at once.
    """
    found = IssueList()
    entries: list[MethodSpec] = []
    asked = study.methods or tuple(MethodSpec(method=m, name=m) for m in DEFAULT_METHODS)
    for entry in asked:
        with found.collecting():
            entries.append(_complete_method(entry, study.train, file))
    if study.metric not in QUALITY_METRICS:
        issue = Issue(
            f"unknown metric {study.metric!r}",
            file=file,
            hint=nearest(_METRICS_MEANT.get(study.metric.lower(), study.metric), QUALITY_METRICS),
        )
        found.issues.append(issue)
    found.raise_any()
    return replace(study, methods=tuple(entries))


def _complete_method(entry: MethodSpec, train: TrainSpec, file: str | None) -> MethodSpec:
    chosen = method(entry.method, file=file)
    wide = [
        key
        for key in entry.config
        if key in STUDY_WIDE and key not in {f.name for f in fields(chosen.config)}
    ]
    found = IssueList(
        Issue(
            f"method {entry.name!r}: {key} is the same for all methods of a study",
            file=file,
            hint=f"Set train.{key}.",
        )
        for key in wide
    )
    with found.collecting():
        check_installed(chosen)
    with found.collecting():
        own = {key: value for key, value in entry.config.items() if key not in wide}
        config = parse_config(chosen, own, file=file)
    own = {**chosen.train, **entry.train}
    with found.collecting():
        replace_train(train, own, where=f"method {entry.name!r}: ", file=file)
    found.raise_any()
    return replace(entry, config=config_to_plain(config), train=own)


def plan(study: StudySpec, prepared: Prepared) -> list[RunSpec]:
    """The runs of a completed study: all methods with the first seed, then with the next.

    A classical method gives the same model with every seed, so it runs with the first one alone.
    Device and precision are those of the machine: on another one it is another answer.
    """
    task = prepared.task
    here = {"max_length": task.max_length, "device": prepared.device}
    trains = [replace_train(study.train, {**entry.train, **here}) for entry in study.methods]
    trains = [
        replace(t, precision=prepared.precision) if t.precision == "auto" else t for t in trains
    ]
    return [
        RunSpec(
            name=entry.name,
            method=entry.method,
            config=entry.config,
            model=study.model,
            train=train,
            seed=seed,
            metric=study.metric,
            data_fingerprint=task.fingerprint,
            model_fingerprint=task.model_fingerprint,
            task_key=task.key,
        )
        for place, seed in enumerate(study.seeds)
        for entry, train in zip(study.methods, trains, strict=True)
        if place == 0 or varies_with_seed(entry)
    ]


def plan_seed(study: StudySpec, prepared: Prepared, seed: int) -> list[RunSpec]:
    """The runs of one further seed."""
    methods = tuple(entry for entry in study.methods if varies_with_seed(entry))
    return plan(replace(study, methods=methods, seeds=(seed,)), prepared)


def varies_with_seed(entry: MethodSpec) -> bool:
    """Whether another seed gives another model."""
    return method(entry.method).family != "classical"
