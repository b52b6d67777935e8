"""The complete error analysis, and its compact form in `summary.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tuneoff.error_analysis.ambiguity import MethodAmbiguity, ambiguity
from tuneoff.error_analysis.confidence import Calibration, confidence
from tuneoff.error_analysis.evidence import ErrorEvidence
from tuneoff.error_analysis.labels import LabelErrors, labels
from tuneoff.error_analysis.overlap import Overlap, overlap
from tuneoff.error_analysis.rows import ListedRow, listed_rows
from tuneoff.error_analysis.slices import Slices, slices
from tuneoff.error_analysis.suspects import LabelSuspect, label_suspects
from tuneoff.error_analysis.words import Words, words
from tuneoff.exceptions import MissingExtra

KEPT = 10
"""Number of words and slices per method in the summary."""


@dataclass(frozen=True)
class ErrorAnalysis:
    """Error analysis of all methods of a study."""

    rows: int
    """Number of test rows."""
    labels: dict[str, list[LabelErrors]]
    """Errors by label, for each method."""
    words: Words | None
    """Words associated with errors; None without texts."""
    slices: Slices
    """Error rates of parts of the test rows."""
    overlap: Overlap
    """Overlap of the methods' errors."""
    confidence: dict[str, Calibration]
    """Calibration of each method with probabilities."""
    suspects: list[LabelSuspect] | None
    """Rows whose label is probably wrong; None without probabilities or without cleanlab."""
    suspects_missing: str | None
    """Message about the package to install; None if it is installed."""
    ambiguity: dict[str, MethodAmbiguity] | None
    """Relation to the annotators' disagreement; None without annotations."""
    listed: list[ListedRow]
    """Selected rows for reading."""

    def compact(self) -> dict[str, Any]:
        """Return plain values for `errors` in `summary.json`, with single words but no texts.

        The keys are those of this class and its parts. Lists of words and slices have their first
        10 entries only. `calibration` is `confidence` without its bins, and `label_suspects` is
        the number of rows in `suspects`.
        """
        return {
            "rows": self.rows,
            "labels": {name: [asdict(x) for x in lines] for name, lines in self.labels.items()},
            "words": _compact_words(self.words) if self.words else None,
            "slices": {
                "tested": self.slices.tested,
                "methods": {
                    name: [asdict(s) | {"significant": s.significant} for s in found[:KEPT]]
                    for name, found in self.slices.methods.items()
                },
            },
            "overlap": asdict(self.overlap),
            "calibration": {
                name: {
                    "log_loss": found.log_loss,
                    "ece": found.ece,
                    "margins": asdict(found.margins) if found.margins else None,
                    "scaling": asdict(found.scaling) if found.scaling else None,
                }
                for name, found in self.confidence.items()
            },
            "label_suspects": None if self.suspects is None else len(self.suspects),
            "ambiguity": None
            if self.ambiguity is None
            else {name: asdict(found) for name, found in self.ambiguity.items()},
        }


def _compact_words(found: Words) -> dict[str, Any]:
    return {
        "tested": found.tested,
        "methods": {
            name: {
                "errors": m.errors,
                "rate": m.rate,
                "significant": m.significant,
                "frequent": [asdict(w) for w in m.frequent[:KEPT]],
                "suspect": [asdict(w) | {"significant": w.significant} for w in m.suspect[:KEPT]],
            }
            for name, m in found.methods.items()
        },
        "across": [asdict(w) for w in found.across[:KEPT]],
    }


def analyze(
    evidence: ErrorEvidence, annotations: Sequence[Sequence[str] | None] | None = None
) -> ErrorAnalysis:
    """Run all parts of the error analysis.

    Args:
        evidence: Predictions of all methods on the same rows.
        annotations: Labels of several annotators for each row, see `ambiguity`.
    """
    suspects, missing = None, None
    try:
        suspects = label_suspects(evidence)
    except MissingExtra as error:
        missing = str(error)
    return ErrorAnalysis(
        rows=len(evidence),
        labels=labels(evidence),
        words=words(evidence),
        slices=slices(evidence),
        overlap=overlap(evidence),
        confidence=confidence(evidence),
        suspects=suspects,
        suspects_missing=missing,
        ambiguity=ambiguity(evidence, annotations) if annotations is not None else None,
        listed=listed_rows(evidence, suspects),
    )
