"""Result of an export: where it is, and how it differs from the run's model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneoff.exceptions import BadInput, Issue
from tuneoff.formatting import percent

SCHEMA = 1
"""Version of `parity.json`, increased if a field changes its meaning."""

EXACT = 1e-3
"""Largest difference of two logits, divided by the standard deviation of all logits, that a format
without rounded weights may have. Rounding in float32 explains about 1e-5."""

LOSS = 0.01
"""Proportion of labels that a format with rounded weights may change by default."""

REASONS = 4
"""Maximum number of reasons that a refusal names."""

WRONG_SHAPE = 1.0
"""Difference of the same kind from which a batch counts as computed wrongly, not as rounded."""


@dataclass(frozen=True)
class MetricChange:
    """The study's metric of the run's model and of the export, on the same labelled rows."""

    metric: str
    original: float
    exported: float
    change: float
    """Exported minus original."""
    low: float
    """Lower end of the change's 95 % interval over rows (paired percentile bootstrap)."""
    high: float


@dataclass(frozen=True)
class ChangedRow:
    """A row with a large difference of logits."""

    row: int
    """Number of the row, as in predictions and messages."""
    difference: float
    """Largest difference of its logits, divided by the standard deviation of all logits."""
    original: str
    """Label that the run's model predicts."""
    exported: str


@dataclass(frozen=True)
class Shape:
    """A batch of the grid of batch sizes and lengths."""

    texts: int
    tokens: int
    """Number of tokens of the longest text."""
    difference: float | None
    """Largest difference of logits over their standard deviation; None: the export failed."""
    error: str | None = None


@dataclass(frozen=True)
class Speed:
    """Speed of a model on this machine, with texts as strings and the same tokenizer."""

    latency_seconds: float
    """Median time for a single text."""
    texts_per_second: float
    """In batches of similar length."""


@dataclass(frozen=True)
class Parity:
    """Comparison of an export with the model of its run, which Transformers or PEFT runs."""

    split: str
    """Where the rows come from: a split of the study, or a file."""
    rows: int
    largest_difference: float
    """Largest difference of two logits, divided by the standard deviation of all logits."""
    changed: int
    """Number of rows whose predicted label changes."""
    changed_from_record: int | None
    """Number of rows whose label differs from the one that the run predicted in the precision of
    its training; None if its predictions are not available."""
    metric: MetricChange | None
    """None for rows without labels."""
    worst: list[ChangedRow]
    shapes: list[Shape]
    original_speed: Speed
    exported_speed: Speed
    bound: float
    """Limit of `largest_difference`, or with rounded weights of the proportion of changed rows."""
    lossy: bool
    """Whether `bound` limits the proportion of changed labels."""

    @property
    def changed_ratio(self) -> float:
        """Proportion of rows whose predicted label changes."""
        return self.changed / self.rows

    @property
    def failures(self) -> list[str]:
        """Reasons for which the export is refused."""
        found = []
        if self.lossy and self.changed_ratio > self.bound:
            found.append(
                f"{self.changed} of {self.rows:,} labels change"
                f" ({percent(100 * self.changed_ratio)}); the limit is {percent(100 * self.bound)}"
            )
        if not self.lossy and self.largest_difference > self.bound:
            found.append(
                f"logits differ by up to {self.largest_difference:.2g} of their standard deviation"
                f" (the limit is {self.bound:g}), and {self.changed} of {self.rows:,} labels change"
            )
        limit = WRONG_SHAPE if self.lossy else self.bound
        for shape in self.shapes:
            where = f"a batch of {shape.texts} with up to {shape.tokens} tokens"
            if shape.error is not None:
                found.append(f"{where} fails: {shape.error}")
            elif shape.difference is not None and shape.difference > limit:
                found.append(
                    f"in {where}, logits differ by {shape.difference:.2g} of their standard"
                    " deviation"
                )
        return found

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for `parity.json`."""
        return {"schema": SCHEMA, **asdict(self), "passed": not self.failures}


@dataclass(frozen=True)
class Export:
    """A finished export."""

    path: Path
    format: str
    bytes: int
    """Size of all files."""
    parity: Parity
    notes: list[str]
    """How the exported model differs from the trained one."""


EXPORTER_ERROR = (
    "Please report the model's architecture: such a difference is an error of the exporter. Another"
    " format may work."
)
"""Hint for an export that is wrong rather than rounded."""


class ExportRefused(BadInput):
    """The export predicts something else than the run's model; it was not written.

    Attributes:
        parity: The comparison; None if the export cannot predict the rows at all.
    """

    def __init__(self, path: Path, reasons: Sequence[str], parity: Parity | None = None) -> None:
        self.parity = parity
        hint = EXPORTER_ERROR
        if parity is not None and parity.lossy and parity.changed_ratio > parity.bound:
            needed = math.ceil(1000 * parity.changed_ratio) / 10
            hint = (
                "Choose a format without rounded weights, or accept the loss with"
                f" --accept-loss {needed:g}%."
            )
        message = f"not written: {'; '.join(reasons[:REASONS])}"
        super().__init__(Issue(message, file=str(path), hint=hint))
