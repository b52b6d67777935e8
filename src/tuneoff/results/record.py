"""What came out: one run's record, one task's record, and the metrics with unit and direction.

A value that is missing is `None` (JSON `null`), never a stand-in. Sizes are bytes, times seconds,
shares and scores lie in [0, 1] unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

SCHEMA = 1
"""Of `record.json`; raised when a field changes its meaning."""


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    PRUNED = "pruned"
    """A trial that was ended early, because it fell behind the others."""


@dataclass(frozen=True)
class Metric:
    """A quality or cost that runs are compared by."""

    key: str
    title: str
    unit: Literal["share", "nats", "seconds", "bytes", "count", "per second"]
    higher_is_better: bool


QUALITY_METRICS: dict[str, Metric] = {
    m.key: m
    for m in (
        Metric("accuracy", "accuracy", "share", True),
        Metric("macro_f1", "macro-F1", "share", True),
        Metric("weighted_f1", "weighted F1", "share", True),
        Metric("macro_precision", "macro precision", "share", True),
        Metric("macro_recall", "macro recall", "share", True),
        Metric("mcc", "Matthews correlation", "share", True),
        Metric("log_loss", "log loss", "nats", False),
        Metric("ece", "expected calibration error", "share", False),
    )
}


@dataclass(frozen=True)
class ClassScores:
    """One label against the rest."""

    precision: float
    recall: float
    f1: float
    support: int
    """Rows of this label."""


@dataclass(frozen=True)
class Scores:
    """Quality on one split. The label set is the study's, not the split's."""

    accuracy: float
    macro_f1: float
    weighted_f1: float
    macro_precision: float
    macro_recall: float
    mcc: float
    log_loss: float | None
    ece: float | None
    """Both None where labels were predicted without probabilities."""
    per_class: dict[str, ClassScores]
    confusion_matrix: list[list[int]]
    """Rows are true labels, columns predicted ones, both in the order of `data.labels`."""


@dataclass(frozen=True)
class Quality:
    """Scores at the chosen checkpoint; the test split is touched once, at the end."""

    validation: Scores | None = None
    test: Scores | None = None


@dataclass(frozen=True)
class MethodInfo:
    """Which method ran, with every setting filled in."""

    name: str
    """The name of the entry in the study."""
    method: str
    """The registered method."""
    family: str
    config: dict[str, Any]


@dataclass(frozen=True)
class DataInfo:
    """The rows that a run saw."""

    fingerprint: str
    train_rows: int
    validation_rows: int
    test_rows: int
    labels: list[str]


@dataclass(frozen=True)
class Parameters:
    """Each weight counted once; a head that an adapter replaced is not counted."""

    total: int
    trainable: int
    trainable_body: int
    trainable_head: int
    trainable_percent: float
    """100 x trainable / total."""


@dataclass(frozen=True)
class Cost:
    """What a run took, by the definitions of the documentation's page on measuring."""

    train_seconds: float | None = None
    """First step to last, without evaluation, saving and loading, the device synchronised."""
    evaluate_seconds: float | None = None
    total_seconds: float | None = None
    """From the start of the run's process to its record."""
    samples_per_second: float | None = None
    """Steady state of training: without the first tenth of the steps."""
    tokens_per_second: float | None = None
    """Real tokens, no padding."""
    latency_seconds: float | None = None
    """Median time to answer one test text alone; None in records of earlier versions."""
    peak_memory_bytes: int | None = None
    memory: dict[str, int | None] = field(default_factory=dict)
    """By part: weights, gradients, optimizer_state, activations; peaks of training, evaluation."""
    storage_bytes: int | None = None
    """On disk and needed beside the base model."""
    flops_utilization: float | None = None
    """The model's arithmetic for real tokens over the measured rate of a plain matrix product."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Where the total went: load, prefix, train, validate, evaluate, latency, checkpoint, save."""
    parts: dict[str, float] = field(default_factory=dict)
    """The same in finer parts, by the names of `PARTS`: all but `tokenize` make up the total."""


PARTS = {
    "tokenize": "tokenising",
    "load": "loading",
    "prefix": "frozen layers",
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "graph": "CUDA graphs",
    "train": "fitting",
    "evaluate": "evaluation",
    "latency": "latency",
    "save": "saving",
    "other": "other",
}
"""Where a run's time goes, in words. `tokenize` is done once for all runs of a study, and stands in
each of their records without being part of their total."""


@dataclass(frozen=True)
class Difference:
    """How far two models are apart, on the same rows."""

    rows: int
    logits: float
    """Largest difference of two logits, over the standard deviation of all of them."""
    tolerance: float | None
    """What rounding explains; None: the difference is told, and nothing is expected of it."""

    @property
    def passed(self) -> bool:
        """Whether the two are one model."""
        return self.tolerance is None or self.logits <= self.tolerance

    @staticmethod
    def between(found: Any, expected: Any, tolerance: float | None) -> Difference:
        """Of two (rows, labels) tensors or arrays of logits."""
        spread = max(float(expected.std()), 1e-6)
        return Difference(len(found), float(abs(found - expected).max()) / spread, tolerance)


@dataclass(frozen=True)
class Checks:
    """What a run was held to at its end."""

    unchanged: list[str]
    """Weights that were to train and did not change."""
    changed: list[str]
    """Weights that were frozen and changed."""
    reopened: Difference | None = None
    """The saved model, opened in a fresh process by Transformers or PEFT alone, against the one
    that was measured."""
    merged: Difference | None = None
    """The adapter merged into its base against the two side by side; None: nothing to merge."""
    alone: Difference | None = None
    """Texts by themselves against the same texts in a batch of different lengths; None in records
    of earlier versions."""

    @property
    def depends_on_batch(self) -> bool:
        """Whether a text's prediction depends on the other texts in its batch."""
        return self.alone is not None and not self.alone.passed

    @property
    def problems(self) -> list[str]:
        """What did not hold, in words."""
        found = []
        if self.unchanged:
            found.append(f"did not change though it trains: {_some(self.unchanged)}")
        if self.changed:
            found.append(f"changed though it is frozen: {_some(self.changed)}")
        for what, difference in (("opened again", self.reopened), ("merged", self.merged)):
            if difference is not None and not difference.passed:
                found.append(
                    f"the saved model, {what}, gives other logits: off by {difference.logits:.3g}"
                    f" of their spread, where rounding explains {difference.tolerance:g}"
                )
        if self.alone is not None and self.depends_on_batch:
            found.append(
                "predictions depend on the other rows: the logits of a text alone and in a batch"
                f" differ by {self.alone.logits:.3g} of their spread, where rounding explains"
                f" {self.alone.tolerance:g}"
            )
        return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


@dataclass(frozen=True)
class RunRecord:
    """One run's outcome, as `record.json` holds it. Every outcome is a record."""

    run_id: str
    status: Status
    method: MethodInfo
    seed: int
    model: str
    metric: str
    data: DataInfo
    train: dict[str, Any]
    """The training settings as they were used: learning rate, precision and device resolved."""
    parameters: Parameters | None = None
    quality: Quality = Quality()
    cost: Cost = Cost()
    best_epoch: int | None = None
    error: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    deviations: dict[str, str] = field(default_factory=dict)
    """Where the engine departs from the plain recipe (attention dropout, …), and how."""
    warnings: list[str] = field(default_factory=list)
    checks: Checks | None = None
    """None: there is no encoder, or the run ended before."""
    trial: bool = False
    """Whether this is a trial of a search: scored on validation, never in the table."""
    failures: int = 0
    """How often the run ended without a result, this time included; one that was interrupted does
    not count."""
    schema: int = SCHEMA

    def to_plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> RunRecord:
        """Read back; a missing required field raises `pydantic.ValidationError`."""
        from pydantic import TypeAdapter

        if "departures" in plain:  # the name until version 0.1
            plain = {**plain, "deviations": plain["departures"]}
        return TypeAdapter(RunRecord).validate_python(plain)


@dataclass(frozen=True)
class Quantiles:
    """Of token counts: least, quarter, median, three quarters, 95 %, 99 %, most."""

    least: int
    q25: float
    median: float
    q75: float
    q95: float
    q99: float
    most: int
    mean: float


@dataclass(frozen=True)
class SplitRecord:
    """One split, as a reader wants to see it before training."""

    rows: int
    label_counts: dict[str, int]
    """Over the study's label set, zeros included."""
    lengths: Quantiles
    """In tokens of the study's tokenizer, special ones included, before cutting."""
    length_histogram: list[list[int]]
    """[first token count of the bin, rows] pairs; bins are equally wide."""
    cut_rows: int
    """Rows longer than `max_length`."""
    cut_tokens_share: float
    """Share of all tokens that cutting loses."""
    duplicate_rows: int
    """Rows whose text (pair) stood in this split before."""
    groups: int | None = None
    """Different groups; None without a group column."""
    largest_group: int | None = None
    """Rows of the largest group."""
    ungrouped_rows: int | None = None
    """Rows without a group."""


@dataclass(frozen=True)
class TaskRecord:
    """A prepared task: data, labels, splits; and the identity of the model it was tokenised for."""

    fingerprint: str
    """SHA-256 over the rows of all splits, as they are trained on."""
    key: str
    """Name of the folder under the study's `data/`: data, tokenizer and max_length by content."""
    labels: list[str]
    pair: bool
    max_length: int
    splits: dict[str, SplitRecord]
    """`train`, `validation`, `test`."""
    shared_rows: dict[str, int]
    """Rows of the second split whose text stands in the first too, by `"train/test"` and so on."""
    lengths_by_label: dict[str, Quantiles]
    """Of the training rows."""
    model: str
    model_fingerprint: str
    model_type: str
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Names of the columns of text and label; empty in records of earlier versions."""

    def to_plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> TaskRecord:
        """Read back; a missing required field raises `pydantic.ValidationError`."""
        from pydantic import TypeAdapter

        return TypeAdapter(TaskRecord).validate_python(plain)
