"""Specifications of a study, as in its file, and of one run, as passed to the engine.

`StudySpec` mirrors the study file key by key. `RunSpec` is one method with one seed and all
defaults filled in. Each setting is one field: type, default, and a `Setting` with its help text,
range and command-line option. Values from files and users are checked in `read.py` only.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from tuneoff.config.search import Trial, TuneSpec
from tuneoff.config.setting import Setting, settings

ENGINE = 6
"""Version of the engine, part of the identity of every run.

It is raised when the engine gives another result for the same specification.
"""

ENGINE_CLASS_WEIGHTS = 7
"""Version of the engine for runs with class weights. Version 6 applied them twice to encoders."""

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Device = Literal["auto", "cpu", "cuda", "mps"]
ClassWeights = Literal["none", "balanced"] | dict[str, float]
Count = int | None

HEADER = Setting(
    "Whether CSV and TSV files start with a header. Without one, columns are numbered from 1.",
    "--header/--no-header",
    default="detected for each file",
)


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the labelled rows are and how they are split.

    A path names a CSV, TSV, JSONL or Parquet file (each also gzipped), or a data set of the Hugging
    Face hub: ``hf:name``, or ``hf:name:config``. The split of a hub data set is the one of its role
    (``train``, ``test``, ``validation``).
    """

    train: Annotated[
        str,
        Setting("Labelled rows: a CSV, TSV, JSONL or Parquet file, or hf:NAME.", "--train"),
    ]
    test: Annotated[
        str | float,
        Setting("Test rows: a file, or a fraction of the training file.", "--test"),
    ] = 0.2
    validation: Annotated[
        str | float,
        Setting(
            "Validation rows, on which the checkpoint is chosen: a file, or a fraction of the"
            " training rows.",
            "--validation",
        ),
    ] = 0.1
    text: Annotated[
        str | None,
        Setting("Column of the text.", "--text", default="text, or the only possible column"),
    ] = None
    text_pair: Annotated[
        str | None, Setting("Column of the second text, for pairs of texts.", "--text-pair")
    ] = None
    label: Annotated[
        str | None,
        Setting("Column of the label.", "--label", default="label, or the only possible column"),
    ] = None
    weight: Annotated[
        str | None,
        Setting(
            "Column of row weights. They weight the loss in training and the scores in evaluation.",
            "--weight",
        ),
    ] = None
    group: Annotated[
        str | None,
        Setting(
            "Column of groups: rows of a group are never split across train and test.", "--group"
        ),
    ] = None
    header: Annotated[bool | None, HEADER] = None
    max_train: Annotated[
        Count,
        Setting("Number of rows to sample from the training file.", "--max-train", "all", ge=2),
    ] = None
    max_test: Annotated[
        Count, Setting("Number of rows to sample from the test file.", "--max-test", "all", ge=1)
    ] = None
    split_seed: Annotated[int, Setting("Random seed of splits and samples.", ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Settings of training, with the names of `transformers.TrainingArguments` where they exist."""

    epochs: Annotated[int, Setting("Number of training epochs.", "--epochs", ge=1)] = 3
    batch_size: Annotated[
        int, Setting("Number of examples per optimizer step.", "--batch-size", ge=1)
    ] = 16
    max_length: Annotated[
        Count,
        Setting(
            "Maximum number of tokens of a text, or of a pair of texts. Longer ones are truncated.",
            "--max-length",
            "the model's maximum, at most 512",
            ge=4,
        ),
    ] = None
    learning_rate: Annotated[
        float | Literal["auto"],
        Setting(
            "Peak learning rate, or auto for the method's own default.", "--learning-rate", gt=0
        ),
    ] = "auto"
    weight_decay: Annotated[float, Setting("Weight decay of AdamW, for matrices.", ge=0)] = 0.01
    warmup_ratio: Annotated[
        float, Setting("Fraction of the steps in which the learning rate rises.", ge=0, lt=1)
    ] = 0.1
    lr_scheduler_type: Annotated[
        Literal["linear", "cosine", "constant"],
        Setting("Learning-rate schedule after the warm-up."),
    ] = "linear"
    max_grad_norm: Annotated[
        float, Setting("Norm to which the gradient of a step is clipped.", gt=0, finite=False)
    ] = 1.0
    adam_beta1: Annotated[float, Setting("Beta 1 of AdamW.", ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Setting("Beta 2 of AdamW.", ge=0, lt=1)] = 0.999
    adam_epsilon: Annotated[float, Setting("Epsilon of AdamW.", gt=0)] = 1e-8
    class_weights: Annotated[
        ClassWeights,
        Setting(
            "Weights of the labels in the loss: none, or balanced, inverse to their frequency."
            " A study file may also give a weight per label.",
            "--class-weights",
        ),
    ] = "none"
    loss: Annotated[Literal["cross_entropy", "focal"], Setting("Loss function.")] = "cross_entropy"
    focal_gamma: Annotated[
        float,
        Setting(
            "Gamma of the focal loss. The larger it is, the less confident rows contribute.", ge=0
        ),
    ] = 2.0
    label_smoothing_factor: Annotated[
        float, Setting("Label smoothing of the loss.", ge=0, lt=1)
    ] = 0.0
    precision: Annotated[
        Precision,
        Setting(
            "Floating-point type of the computation: auto, bf16, fp16 or fp32. With auto it is bf16"
            " where that is faster than fp32.",
            "--precision",
        ),
    ] = "auto"
    device: Annotated[
        Device, Setting("Device of the computation: auto, cpu, cuda or mps.", "--device")
    ] = "auto"
    attention_dropout: Annotated[
        float | Literal["model"],
        Setting(
            'Dropout of attention weights. 0 allows the fast kernels; "model" takes the value of'
            " the model's configuration.",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    early_stopping_patience: Annotated[
        Count,
        Setting(
            "Number of epochs without a better validation score after which a run stops.",
            "--early-stopping-patience",
            "never",
            ge=1,
        ),
    ] = None
    micro_batch_tokens: Annotated[
        Count,
        Setting(
            "Maximum number of tokens, without padding, in a forward pass. A larger step is split,"
            " with the same result.",
            default="2,048 on a CPU, 16,384 elsewhere",
            ge=1,
        ),
    ] = None
    gradient_checkpointing: Annotated[
        bool | Literal["auto"],
        Setting(
            "Whether to recompute the activations of layers in the backward pass: less memory, a"
            ' third more time, the same result. "auto" does so once an example does not fit.'
        ),
    ] = "auto"
    cuda_graphs: Annotated[
        bool,
        Setting(
            "Whether to replay steps of equal size as a CUDA graph on a GPU: fewer kernel launches,"
            " the same result."
        ),
    ] = True
    tf32: Annotated[
        bool,
        Setting(
            "Whether a GPU of compute capability 8.0 or higher rounds the inputs of float32 matrix"
            " products to TF32 (10 bits of mantissa). With fp32 this is several times as fast."
        ),
    ] = True
    deterministic: Annotated[
        bool,
        Setting(
            "Whether a GPU uses algorithms that give identical bits in every run. They are slower"
            " and exclude CUDA graphs. On a CPU every run is deterministic."
        ),
    ] = False
    frozen_prefix: Annotated[
        Literal["stored", "recomputed", "dropout"],
        Setting(
            'What to do with frozen lower layers, whose output is the same in every epoch. "stored"'
            ' caches it on disk once per study, "recomputed" does not; "dropout" keeps their'
            " dropout as in the plain recipe, and caches nothing."
        ),
    ] = "stored"
    checkpoint_seconds: Annotated[
        float,
        Setting("Minimum time between two checkpoints of a run, in seconds.", ge=0, finite=False),
    ] = 60.0
    threads: Annotated[
        Count,
        Setting(
            "Number of CPU threads of a run.", "--threads", "all cores, shared by workers", ge=1
        ),
    ] = None


STUDY_WIDE = ("device", "max_length", "threads", "checkpoint_seconds")
"""Training settings that are the same for all methods of a study.

The methods share one machine and one tokenised task.
"""

METHOD_TRAIN_KEYS = tuple(f.name for f in fields(TrainSpec) if f.name not in STUDY_WIDE)
"""Training settings that an entry of `methods` may override."""


@dataclass(frozen=True, kw_only=True)
class LimitSpec:
    """Limits of what the recommended method may cost, as the section `limits` of a study file.

    A study keeps those that are given, in bytes and seconds (`StudySpec.limits`).
    """

    peak_memory_bytes: Annotated[
        str | None,
        Setting("Maximum memory of a training run, e.g. 2GB.", "--max-memory", unit="bytes"),
    ] = None
    storage_bytes: Annotated[
        str | None,
        Setting("Maximum size of the saved weights, e.g. 10MB.", "--max-storage", unit="bytes"),
    ] = None
    train_seconds: Annotated[
        str | None,
        Setting("Maximum training time, e.g. 600 or 10m.", "--max-train-seconds", unit="seconds"),
    ] = None
    latency_seconds: Annotated[
        str | None,
        Setting(
            "Maximum latency per text in milliseconds, e.g. 20.", "--max-latency", unit="seconds"
        ),
    ] = None
    min_recall: Annotated[
        list[str] | None,
        Setting(
            "Minimum recall of a label on the test rows, e.g. spam=0.8 (repeatable).",
            "--min-recall",
        ),
    ] = None


LIMITS = {f.name: f.setting.unit for f in settings(LimitSpec) if f.setting.unit}
"""Costs of a record that a study may limit, and their unit."""


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """Entry of a study's `methods`: a registered method, a name and settings.

    `config` holds the method's own settings (rank, alpha, …), `train` the values of `TrainSpec`
    that this entry overrides.
    """

    method: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The runs that answer one question: methods x seeds on one task with one model."""

    model: Annotated[str, Setting("Hub id or local folder of the pretrained encoder.", "--model")]
    data: DataSpec
    methods: tuple[MethodSpec, ...] = ()
    train: TrainSpec = TrainSpec()
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of all methods."""
    more_seeds: tuple[int, ...] = ()
    """Further seeds, added one at a time for methods that may still be the recommendation.

    `seeds: 2:8` in a file means two to eight.
    """
    max_study_seconds: Annotated[
        float | None,
        Setting(
            "With --seeds N:M, the time after which no further seed is started, e.g. 2h.",
            "--max-study-time",
            unit="seconds",
        ),
    ] = None
    metric: Annotated[
        str, Setting("Metric that selects the checkpoint and ranks the methods.", "--metric")
    ] = "macro_f1"
    margin: Annotated[
        float,
        Setting(
            "Largest difference of the metric that does not matter. Methods that are shown to be"
            " closer are equivalent.",
            "--margin",
            ge=0,
            lt=1,
        ),
    ] = 0.01
    limits: dict[str, float] = field(default_factory=dict)
    """Upper limits of what the recommended method may cost, by the names of `LIMITS`."""
    min_recall: dict[str, float] = field(default_factory=dict)
    """Lower limits of its recall on the test rows, by label; in a file under `limits`."""
    tune: TuneSpec | None = None
    """How the settings of each method are searched before its runs; None: no search."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Specification of one run: one training with one method, setting and seed."""

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
    """Key of the prepared task: a hash of its rows, tokenizer and `max_length`."""
    trial: Trial | None = None
    """None: a run of the study itself."""

    def content_hash(self) -> str:
        """Return the SHA-256 of all that decides the result; data and model count by content."""
        weighted = self.train.class_weights != "none"
        content = asdict(self) | {"engine": ENGINE_CLASS_WEIGHTS if weighted else ENGINE}
        for key in ("name", "model", "trial"):
            del content[key]
        if self.trial is not None:
            content["trial"] = self.trial.content()
        for key in ("threads", "checkpoint_seconds"):
            del content["train"][key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<8 hex digits of the content hash>`, a valid folder name."""
        return f"{file_name(self.name)}-s{self.seed}-{self.content_hash()[:8]}"


def file_name(name: str) -> str:
    """Return `name` with all characters but letters, digits, `.`, `_` and `-` replaced by `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "run"
