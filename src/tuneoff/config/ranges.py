"""Validation beyond types: ranges of values, and unique names."""

from __future__ import annotations

import math

from tuneoff.config.search import tune_issues
from tuneoff.config.setting import broken_rules
from tuneoff.config.study import StudySpec, TrainSpec
from tuneoff.exceptions import Issue


def train_issues(train: TrainSpec, where: str) -> list[str]:
    """Return the broken rules of training settings as messages; `where` is put before each name."""
    weights = train.class_weights
    broken = broken_rules(train, where)
    if not isinstance(weights, str) and not all(0 < w < math.inf for w in weights.values()):
        broken.append(f"{where}class_weights must be positive")
    return broken


def study_issues(study: StudySpec, file: str | None) -> list[Issue]:
    """Return the issues of a study: values out of range, and method names that are not unique."""
    data = study.data
    rules = [
        (
            isinstance(data.test, str) or 0 < data.test < 1,
            "data.test must be a file, or a fraction in (0, 1)",
        ),
        (
            isinstance(data.validation, str) or 0 < data.validation < 1,
            "data.validation must be a file, or a fraction in (0, 1)",
        ),
        (
            study.max_study_seconds is None or bool(study.more_seeds),
            "max_study_seconds needs a range of seeds, such as 2:8",
        ),
        *(
            (0 <= least <= 1, f"limits.min_recall: {label!r} must lie in [0, 1]")
            for label, least in study.min_recall.items()
        ),
    ]
    texts = broken_rules(data, "data.") + broken_rules(study, "")
    texts += train_issues(study.train, "train.") + [text for holds, text in rules if not holds]
    texts += (
        tune_issues(study.tune, study.seeds + study.more_seeds) if study.tune is not None else []
    )
    issues = [Issue(text, file=file) for text in texts]
    names = [m.name for m in study.methods]
    return issues + [
        Issue(
            f"two methods are named {name!r}", file=file, hint="Give each entry a different name."
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
