"""What the types do not carry: ranges, and names that must differ."""

from __future__ import annotations

import math

from tuneoff.config.search import tune_issues
from tuneoff.config.study import StudySpec, TrainSpec
from tuneoff.exceptions import Issue


def train_issues(train: TrainSpec, where: str) -> list[str]:
    """Ranges that the types do not carry."""
    rate, weights = train.learning_rate, train.class_weights
    dropout, patience = train.attention_dropout, train.early_stopping_patience
    tokens = train.micro_batch_tokens
    rules = [
        (train.epochs >= 1, "epochs must be at least 1"),
        (train.batch_size >= 1, "batch_size must be at least 1"),
        (train.max_length is None or train.max_length >= 4, "max_length must be at least 4"),
        (rate == "auto" or 0 < rate < math.inf, "learning_rate must be positive"),
        (0 <= train.weight_decay < math.inf, "weight_decay must not be negative"),
        (0 <= train.warmup_ratio < 1, "warmup_ratio must lie in [0, 1)"),
        (train.max_grad_norm > 0, "max_grad_norm must be positive"),
        (0 <= train.adam_beta1 < 1, "adam_beta1 must lie in [0, 1)"),
        (0 <= train.adam_beta2 < 1, "adam_beta2 must lie in [0, 1)"),
        (0 < train.adam_epsilon < math.inf, "adam_epsilon must be positive"),
        (dropout == "model" or 0 <= dropout < 1, "attention_dropout must lie in [0, 1)"),
        (patience is None or patience >= 1, "early_stopping_patience must be at least 1"),
        (tokens is None or tokens >= 1, "micro_batch_tokens must be at least 1"),
        (train.checkpoint_seconds >= 0, "checkpoint_seconds must not be negative"),
        (0 <= train.focal_gamma < math.inf, "focal_gamma must not be negative"),
        (0 <= train.label_smoothing_factor < 1, "label_smoothing_factor must lie in [0, 1)"),
        (train.threads is None or train.threads >= 1, "threads must be at least 1"),
        (
            isinstance(weights, str) or all(0 < w < math.inf for w in weights.values()),
            "class_weights must be positive",
        ),
    ]
    return [where + text for holds, text in rules if not holds]


def study_issues(study: StudySpec, file: str | None) -> list[Issue]:
    """Ranges, and names that must differ."""
    data = study.data
    rules = [
        (
            isinstance(data.test, str) or 0 < data.test < 1,
            "data.test is a file, or a fraction in (0, 1)",
        ),
        (
            isinstance(data.validation, str) or 0 < data.validation < 1,
            "data.validation is a file, or a fraction in (0, 1)",
        ),
        (data.max_train is None or data.max_train >= 2, "data.max_train must be at least 2"),
        (data.max_test is None or data.max_test >= 1, "data.max_test must be at least 1"),
        (data.split_seed >= 0, "data.split_seed must not be negative"),
        (0 <= study.margin < 1, "margin must lie in [0, 1)"),
        (
            study.max_study_seconds is None or bool(study.more_seeds),
            "max_study_seconds bounds further seeds: give seeds a range, such as 2:8",
        ),
        *(
            (0 <= least <= 1, f"limits.min_recall: {label!r} must lie in [0, 1]")
            for label, least in study.min_recall.items()
        ),
    ]
    texts = train_issues(study.train, "train.") + [text for holds, text in rules if not holds]
    texts += (
        tune_issues(study.tune, study.seeds + study.more_seeds) if study.tune is not None else []
    )
    issues = [Issue(text, file=file) for text in texts]
    names = [m.name for m in study.methods]
    return issues + [
        Issue(
            f"two methods are named {name!r}", file=file, hint="Give each entry a name of its own."
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
