"""Plan of a study: its runs, methods x seeds, with all defaults."""

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
"""Metric by its name in scikit-learn, for hints."""

DEFAULT_METHODS = ("tfidf", "head", "partial", "full", "lora")
"""Methods of a study that does not name any."""


def asked_study(content: Mapping[str, Any], *, file: str | None = None) -> StudySpec:
    """Return the completed study of nested plain values, as in a study file.

    Args:
        content: The plain values.
        file: Study file, for the messages.

    Raises:
        BadInput: With all issues, including those of the methods' settings.
    """
    study, issues = draft_study(content, file=file)
    collected = IssueList(issues)
    with collected.collecting():
        study = complete(study, file=file)
    collected.raise_any()
    return study


def complete(study: StudySpec, *, file: str | None = None) -> StudySpec:
    """Return the study with all settings of its methods, or `DEFAULT_METHODS` if it has none.

    Raises:
        BadInput: With all issues: unknown methods, settings or metrics, and invalid values.
    """
    collected = IssueList()
    entries: list[MethodSpec] = []
    methods = study.methods or tuple(MethodSpec(method=m, name=m) for m in DEFAULT_METHODS)
    for entry in methods:
        with collected.collecting():
            entries.append(_complete_method(entry, study.train, file))
    if study.metric not in QUALITY_METRICS:
        issue = Issue(
            f"unknown metric {study.metric!r}",
            file=file,
            hint=nearest(_METRICS_MEANT.get(study.metric.lower(), study.metric), QUALITY_METRICS),
        )
        collected.issues.append(issue)
    collected.raise_any()
    return replace(study, methods=tuple(entries))


def _complete_method(entry: MethodSpec, train: TrainSpec, file: str | None) -> MethodSpec:
    chosen = method(entry.method, file=file)
    wide = [
        key
        for key in entry.config
        if key in STUDY_WIDE and key not in {f.name for f in fields(chosen.config)}
    ]
    collected = IssueList(
        Issue(
            f"method {entry.name!r}: {key} must be the same for all methods of a study",
            file=file,
            hint=f"Set train.{key} instead.",
        )
        for key in wide
    )
    with collected.collecting():
        check_installed(chosen)
    with collected.collecting():
        own = {key: value for key, value in entry.config.items() if key not in wide}
        config = parse_config(chosen, own, file=file)
    own = {**chosen.train, **entry.train}
    with collected.collecting():
        replace_train(train, own, where=f"method {entry.name!r}: ", file=file)
    collected.raise_any()
    return replace(entry, config=config_to_plain(config), train=own)


def plan(study: StudySpec, prepared: Prepared) -> list[RunSpec]:
    """Return the runs of a completed study: all methods with the first seed, then with the next.

    A classical method gives the same model with every seed, so it has a run with the first seed
    only. Device and precision are those of this machine, because they affect the result.
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
    """Return the runs of one further seed."""
    methods = tuple(entry for entry in study.methods if varies_with_seed(entry))
    return plan(replace(study, methods=methods, seeds=(seed,)), prepared)


def varies_with_seed(entry: MethodSpec) -> bool:
    """Return whether another seed gives another model."""
    return method(entry.method).family != "classical"
