"""Keyword arguments of the Python interface, listed so that editors can complete them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict


class StudyOptions(TypedDict, total=False):
    """Keys of a study file in any section; a test compares them with the specifications.

    The type `Any` is a path, a hub data set, a fraction, a `pandas.DataFrame` or a
    `datasets.Dataset`.
    """

    model: str
    metric: str
    margin: float
    limits: Mapping[str, Any]
    max_study_seconds: float | str
    # data
    train: Any
    test: Any
    validation: Any
    text: str | int
    text_pair: str | int
    label: str | int
    weight: str | int
    group: str | int
    header: bool
    max_train: int
    max_test: int
    split_seed: int
    # training
    epochs: int
    batch_size: int
    max_length: int
    learning_rate: float | Literal["auto"]
    weight_decay: float
    warmup_ratio: float
    lr_scheduler_type: Literal["linear", "cosine", "constant"]
    max_grad_norm: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    class_weights: Literal["none", "balanced"] | Mapping[str, float]
    loss: Literal["cross_entropy", "focal"]
    focal_gamma: float
    label_smoothing_factor: float
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    attention_dropout: float | Literal["model"]
    early_stopping_patience: int
    micro_batch_tokens: int
    gradient_checkpointing: bool | Literal["auto"]
    cuda_graphs: bool
    tf32: bool
    deterministic: bool
    frozen_prefix: Literal["stored", "recomputed", "dropout"]
    checkpoint_seconds: float
    threads: int


class TunedStudyOptions(StudyOptions, total=False):
    """Options of a study that may search for settings first."""

    tune: int | Mapping[str, Any]
