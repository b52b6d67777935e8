"""Records of runs and of prepared tasks.

A missing value is `None` (JSON `null`), never a placeholder. Sizes are in bytes, times in seconds,
and shares and scores in [0, 1], unless a field says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 1
"""Version of `record.json`, raised when the meaning of a field changes."""


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    PRUNED = "pruned"
    """A trial that was stopped early because its scores were worse than those of others."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of one label against the rest."""

    precision: float
    recall: float
    f1: float
    support: int
    """Number of rows with this label."""


@dataclass(frozen=True)
class Scores:
    """Scores on one split, over the labels of the study.

    Each metric of `QUALITY_METRICS` is an attribute, too: `scores.accuracy`.
    """

    metrics: dict[str, float | None]
    """Score by metric; None where it is unknown, such as `log_loss` without probabilities."""
    per_class: dict[str, ClassScores]
    confusion_matrix: list[list[int]]
    """Number of rows by true label (rows) and predicted label (columns), as in `data.labels`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["metrics"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON, with one key per metric."""
        plain = asdict(self)
        return {**plain.pop("metrics"), **plain}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of `Scores` from JSON with one key per metric."""
        rest = {key: plain[key] for key in ("per_class", "confusion_matrix")}
        return {"metrics": {k: v for k, v in plain.items() if k not in rest}, **rest}


@dataclass(frozen=True)
class Quality:
    """Scores of the selected checkpoint. The test split is used once, at the end."""

    validation: Scores | None = None
    test: Scores | None = None


@dataclass(frozen=True)
class MethodInfo:
    """The method of a run, with all settings filled in."""

    name: str
    """Name of the entry in the study."""
    method: str
    """Name of the registered method."""
    family: str
    config: dict[str, Any]


@dataclass(frozen=True)
class DataInfo:
    """The data of a run."""

    fingerprint: str
    train_rows: int
    validation_rows: int
    test_rows: int
    labels: list[str]


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters. Each is counted once; a head that PEFT replaced is not counted."""

    total: int
    trainable: int
    trainable_body: int
    trainable_head: int
    trainable_percent: float
    """100 x trainable / total."""


@dataclass(frozen=True)
class Cost:
    """Cost of a run. docs/measuring.md defines each figure."""

    train_seconds: float | None = None
    """Time of all training steps, without evaluation, saving and loading."""
    evaluate_seconds: float | None = None
    total_seconds: float | None = None
    """Time from the start of the process of the run to its record."""
    samples_per_second: float | None = None
    """Training throughput after the first tenth of the steps."""
    tokens_per_second: float | None = None
    """Training throughput in tokens, without padding."""
    latency_seconds: float | None = None
    """Median time to predict a single test text; None in records of earlier versions."""
    peak_memory_bytes: int | None = None
    memory: dict[str, int | None] = field(default_factory=dict)
    """Bytes by part: weights, gradients, optimizer_state, activations; peaks by phase."""
    storage_bytes: int | None = None
    """Size on disk of what is needed in addition to the base model."""
    flops_utilization: float | None = None
    """Arithmetic of the model for real tokens, over the measured rate of a matrix product."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Total time by phase: load, prefix, train, validate, evaluate, latency, checkpoint, save."""
    parts: dict[str, float] = field(default_factory=dict)
    """Total time by the finer parts of `PARTS`; `tokenize` is not part of the total."""


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
"""Titles of the parts of a run's time. Texts are tokenised once for all runs of a study; the time
is in each of their records, but not in their totals."""


@dataclass(frozen=True)
class LogitDifference:
    """Difference between the logits of two models on the same rows."""

    rows: int
    logits: float
    """Largest absolute difference, divided by the standard deviation of the logits."""
    tolerance: float | None
    """Difference that rounding can explain; None: the difference is only reported."""

    @property
    def passed(self) -> bool:
        """Whether the two models agree within the tolerance."""
        return self.tolerance is None or self.logits <= self.tolerance

    @staticmethod
    def between(found: Any, expected: Any, tolerance: float | None) -> LogitDifference:
        """Compare two tensors or arrays of logits with the shape (rows, labels)."""
        spread = max(float(expected.std()), 1e-6)
        return LogitDifference(len(found), float(abs(found - expected).max()) / spread, tolerance)


@dataclass(frozen=True)
class Checks:
    """Results of the checks at the end of a run."""

    unchanged: list[str]
    """Trainable parameters that did not change."""
    changed: list[str]
    """Frozen parameters that changed."""
    reopened: LogitDifference | None = None
    """The saved model, opened in a new process by Transformers or PEFT alone, compared with the
    model that was measured."""
    merged: LogitDifference | None = None
    """The merged adapter compared with the unmerged one; None: there is nothing to merge."""
    alone: LogitDifference | None = None
    """Single texts compared with the same texts in a batch of different lengths; None in records
    of earlier versions."""

    @property
    def depends_on_batch(self) -> bool:
        """Whether the prediction of a text depends on the other texts of its batch."""
        return self.alone is not None and not self.alone.passed

    @property
    def problems(self) -> list[str]:
        """Descriptions of the failed checks."""
        found = []
        if self.unchanged:
            found.append(f"trainable parameters did not change: {_some(self.unchanged)}")
        if self.changed:
            found.append(f"frozen parameters changed: {_some(self.changed)}")
        for what, difference in (("reopened", self.reopened), ("merged", self.merged)):
            if difference is not None and not difference.passed:
                found.append(
                    f"the {what} model gives different logits: by {difference.logits:.3g} standard"
                    f" deviations, where rounding explains {difference.tolerance:g}"
                )
        if self.alone is not None and self.depends_on_batch:
            found.append(
                "predictions depend on the other rows of the batch: the logits of single texts and"
                f" of the same texts in a batch differ by {self.alone.logits:.3g} standard"
                f" deviations, where rounding explains {self.alone.tolerance:g}"
            )
        return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


@dataclass(frozen=True)
class RunRecord:
    """Result of a run, the content of `record.json`. Every outcome is recorded, failures too."""

    run_id: str
    status: Status
    method: MethodInfo
    seed: int
    model: str
    metric: str
    data: DataInfo
    train: dict[str, Any]
    """Training settings, with learning rate, precision and device as they were used."""
    parameters: Parameters | None = None
    quality: Quality = Quality()
    cost: Cost = Cost()
    best_epoch: int | None = None
    error: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    deviations: dict[str, str] = field(default_factory=dict)
    """How the engine deviates from the plain recipe, by topic (attention dropout, …)."""
    warnings: list[str] = field(default_factory=list)
    checks: Checks | None = None
    """None without an encoder, or if the run ended earlier."""
    trial: bool = False
    """Whether this is a trial of a search, which is scored on the validation rows only."""
    failures: int = 0
    """Number of attempts without a result, including this one, not counting interrupts."""
    schema: int = SCHEMA

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = asdict(self)
        for split in ("validation", "test"):
            scores: Scores | None = getattr(self.quality, split)
            plain["quality"][split] = scores.to_plain() if scores else None
        return plain

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> RunRecord:
        """Read a record; `pydantic.ValidationError` if a required field is missing."""
        from pydantic import TypeAdapter

        if "departures" in plain:  # the name until version 0.1
            plain = {**plain, "deviations": plain["departures"]}
        quality = {
            split: scores and Scores.from_plain(scores)
            for split, scores in plain.get("quality", {}).items()
        }
        plain = {**plain, "quality": quality}
        return TypeAdapter(RunRecord).validate_python(plain)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of token counts: minimum, 25, 50, 75, 95 and 99 %, maximum."""

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
    """Summary of one split."""

    rows: int
    label_counts: dict[str, int]
    """Number of rows by label, for all labels of the study."""
    lengths: Quantiles
    """Lengths in tokens before truncation, including special tokens."""
    length_histogram: list[list[int]]
    """Pairs of the first token count of a bin and its number of rows; bins are equally wide."""
    cut_rows: int
    """Number of rows longer than `max_length`."""
    cut_tokens_share: float
    """Share of the tokens that truncation removes."""
    duplicate_rows: int
    """Number of rows whose text (pair) occurs earlier in this split."""
    groups: int | None = None
    """Number of groups; None without a group column."""
    largest_group: int | None = None
    """Number of rows of the largest group."""
    ungrouped_rows: int | None = None
    """Number of rows without a group."""


@dataclass(frozen=True)
class TaskRecord:
    """A prepared task: data, labels, splits, and the model whose tokenizer was used."""

    fingerprint: str
    """SHA-256 of the rows of all splits."""
    key: str
    """Name of the folder in `data/`: a hash of the data, tokenizer and max_length."""
    labels: list[str]
    pair: bool
    max_length: int
    splits: dict[str, SplitRecord]
    """`train`, `validation`, `test`."""
    shared_rows: dict[str, int]
    """Number of rows of the second split whose text is in the first, by `"train/test"` etc."""
    lengths_by_label: dict[str, Quantiles]
    """Lengths of the training rows by label."""
    model: str
    model_fingerprint: str
    model_type: str
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Names of the text and label columns; empty in records of earlier versions."""

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> TaskRecord:
        """Read a record; `pydantic.ValidationError` if a required field is missing."""
        from pydantic import TypeAdapter

        return TypeAdapter(TaskRecord).validate_python(plain)
