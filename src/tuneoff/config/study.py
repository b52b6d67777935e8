"""A study as its file says it, and one run of it as the engine gets it.

`StudySpec` mirrors the study file key by key; `RunSpec` is one method with one seed, every default
filled in. Both are plain dataclasses: what comes from a file or a user is checked in `read.py`, and
nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from tuneoff.config.search import Trial, TuneSpec

ENGINE = 6
"""Part of every run's identity; raised when the engine answers the same spec otherwise."""

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Device = Literal["auto", "cpu", "cuda", "mps"]
ClassWeights = Literal["none", "balanced"] | dict[str, float]


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the labelled rows are and how they are split.

    A path may name CSV, TSV, JSONL or Parquet (each also gzipped), or a data set of the Hugging
    Face hub as ``hf:name``, ``hf:name/config`` being written ``hf:name:config``; the split is the
    one of its role (``train``, ``test``, ``validation``).
    """

    train: str
    test: str | float = 0.2
    """A file, or the fraction of the training file that is held out for the test."""
    validation: str | float = 0.1
    """A file, or the fraction of the training rows that picks the checkpoint."""
    text: str | None = None
    """None: `text`, or else the only column that can be the text."""
    text_pair: str | None = None
    label: str | None = None
    """None: `label`, or else the only column that can be the label."""
    weight: str | None = None
    """Column with a weight per row: of its loss in training, of its score in evaluation."""
    group: str | None = None
    """Column whose values never stand on both sides of a split."""
    header: bool | None = None
    """Whether CSV and TSV files start with the names of their columns; without, columns are
    numbered from 1. None: each file is looked at."""
    max_train: int | None = None
    max_test: int | None = None
    split_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """How a run is trained; names follow `transformers.TrainingArguments` where it has them."""

    epochs: int = 3
    batch_size: int = 16
    """Examples per optimizer step, over all devices."""
    max_length: int | None = None
    """Tokens kept of a text (pair); None: as many as the model takes, at most 512."""
    learning_rate: float | Literal["auto"] = "auto"
    """"auto": the method's own default."""
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    class_weights: ClassWeights = "none"
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    """Of the focal loss: how much less a row weighs, the surer its label is predicted."""
    label_smoothing_factor: float = 0.0
    precision: Precision = "auto"
    device: Device = "auto"
    attention_dropout: float | Literal["model"] = 0.0
    """0: the fast attention kernels have none. "model": as the model's configuration says."""
    early_stopping_patience: int | None = None
    """Epochs without a better validation score after which a run stops; None: never."""
    micro_batch_tokens: int | None = None
    """Real tokens per forward pass at the most; a step of more is split (same result). None: 2,048
    on a CPU, 16,384 elsewhere."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Layers keep their input alone and are computed again in the backward pass: less memory, a
    third more time, the same result. "auto": once a single example does not fit without."""
    cuda_graphs: bool = True
    """On a GPU, replay steps of one size as a CUDA graph: fewer launches, the same result."""
    tf32: bool = True
    """On a GPU of capability 8.0 or higher, products of what stays in float32 round their inputs to
    TF32 (10 bits of mantissa): with precision fp32 several times as fast."""
    deterministic: bool = False
    """On a GPU, use algorithms that give the same bits each time: slower, and without CUDA graphs.
    On a CPU every run does."""
    frozen_prefix: Literal["stored", "recomputed", "dropout"] = "stored"
    """Layers below the first trained one give the same in each epoch: "stored" keeps their states
    on disk, once per study, "recomputed" does not. "dropout" leaves their dropout on, as the plain
    recipe has it, and stores nothing."""
    checkpoint_seconds: float = 60.0
    """Between two points from which a run that died goes on; the answer is the same."""
    threads: int | None = None
    """CPU threads; None: all cores that this process may use, shared among the workers."""


STUDY_WIDE = ("device", "max_length", "threads", "checkpoint_seconds")
"""Training settings that are the same for all methods of a study: one machine, one token store."""

METHOD_TRAIN_KEYS = tuple(f.name for f in fields(TrainSpec) if f.name not in STUDY_WIDE)
"""Training settings that an entry of `methods` may change."""


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """One line of a study's `methods`: a registered method, a name of its own, and settings.

    `config` holds the method's own settings (rank, alpha, …), `train` those of `TrainSpec` in
    which this entry departs from the study.
    """

    method: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The runs that answer one question: methods x seeds on one task with one model."""

    model: str
    data: DataSpec
    methods: tuple[MethodSpec, ...] = ()
    train: TrainSpec = TrainSpec()
    seeds: tuple[int, ...] = (0, 1, 2)
    """Those of all methods."""
    more_seeds: tuple[int, ...] = ()
    """Further ones, one after another, each for the methods that may still be the recommendation,
    until that is settled; `seeds: 2:8` in a file: from two to eight."""
    max_study_seconds: float | None = None
    """Seconds after which no further seed is started; None: there is no such limit."""
    metric: str = "macro_f1"
    margin: float = 0.01
    """Difference of the metric that does not matter: methods shown to be closer are equivalent."""
    limits: dict[str, float] = field(default_factory=dict)
    """The most that the recommended method may need, by the names of `LIMITS`."""
    min_recall: dict[str, float] = field(default_factory=dict)
    """The least recall on the test rows that it must have, by label; in a file under `limits`."""
    tune: TuneSpec | None = None
    """How each method's settings are searched for before its runs; None: they are as given."""


LIMITS = {
    "peak_memory_bytes": "bytes",
    "storage_bytes": "bytes",
    "train_seconds": "seconds",
    "latency_seconds": "seconds",
}
"""Costs of a record that a study may limit, and their unit."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training with one method, setting and seed."""

    name: str
    method: str
    config: dict[str, Any]
    model: str
    train: TrainSpec
    seed: int
    metric: str
    data_fingerprint: str
    model_fingerprint: str
    task_key: str = ""
    """Name of the prepared task: rows, tokenizer and `max_length` by content."""
    trial: Trial | None = None
    """None: a run of the study itself."""

    def content_hash(self) -> str:
        """SHA-256 over what decides the answer: spec, data and model by content, not by path."""
        content = asdict(self) | {"engine": ENGINE}
        for key in ("name", "model", "trial"):
            del content[key]
        if self.trial is not None:
            content["trial"] = self.trial.content()
        for key in ("threads", "checkpoint_seconds"):
            del content["train"][key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<8 hex of the content hash>`, safe as a folder's name."""
        return f"{file_name(self.name)}-s{self.seed}-{self.content_hash()[:8]}"


def file_name(name: str) -> str:
    """`name` with everything but letters, digits, `.`, `_` and `-` replaced, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "run"
