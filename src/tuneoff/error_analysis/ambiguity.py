"""Relation of errors to the annotators' disagreement, for rows with several annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.certainty import design_effects, wilson
from tuneoff.error_analysis.evidence import ErrorEvidence


@dataclass(frozen=True)
class AmbiguityLevel:
    """Error rate of one method on rows with similar annotator agreement."""

    low: float
    """Smallest agreement: fraction of annotators who chose a row's most frequent label."""
    high: float
    """Largest agreement."""
    rows: int
    """Number of rows."""
    errors: int
    """Number of errors."""
    rate: float
    """Error rate: errors / rows."""
    rate_low: float
    """Lower end of the 95 % interval of the rate (Wilson)."""
    rate_high: float
    """Upper end of the interval."""


@dataclass(frozen=True)
class MethodAmbiguity:
    """Relation of one method's errors to the annotators' disagreement."""

    levels: list[AmbiguityLevel]
    """Error rates by agreement, lowest agreement first."""
    correlation: float | None
    """Spearman's correlation between the entropy of a row's annotations and whether it is
    predicted wrongly; None if one of them is constant."""
    p: float | None
    """P value of the correlation."""


def entropy(labels: Sequence[str]) -> float:
    """Return the entropy of one row's annotations in bits; 0 if all annotators agree."""
    shares = np.array(list(Counter(labels).values())) / len(labels)
    return float(max(-(shares * np.log2(shares)).sum(), 0.0))


def ambiguity(
    evidence: ErrorEvidence, annotations: Sequence[Sequence[str] | None], most_levels: int = 6
) -> dict[str, MethodAmbiguity]:
    """Compute the error rate by annotator agreement, and the rank correlation of the two.

    Pavlick and Kwiatkowski 2019, Inherent Disagreements in Human Textual Inferences; Nie, Zhou
    and Bansal 2020, What Can We Learn from Collective Human Opinions on Natural Language
    Inference Data?

    Args:
        evidence: Predictions of all methods.
        annotations: For each row of the evidence, the labels of its annotators in any order, or
            None. Rows with fewer than two labels are ignored.
        most_levels: Maximum number of levels. If there are more distinct values of agreement, they
            are grouped into levels of about equal size.

    Returns:
        The result by method.

    Raises:
        ValueError: If no row has two labels, or if the numbers of rows differ.
    """
    from scipy.stats import spearmanr

    if len(annotations) != len(evidence):
        raise ValueError(f"annotations of {len(annotations)} rows for {len(evidence)} rows")
    several = [(i, a) for i, a in enumerate(annotations) if a is not None and len(a) > 1]
    if not several:
        raise ValueError("no row has the labels of two annotators")
    places = np.array([i for i, _ in several])
    agreement = np.array([Counter(a).most_common(1)[0][1] / len(a) for _, a in several])
    disorder = np.array([entropy(a) for _, a in several])
    level = _levels(agreement, most_levels)
    found = {}
    for method in evidence.methods:
        wrong = evidence.wrong[method.name][places]
        constant = len(np.unique(disorder)) == 1 or len(np.unique(wrong)) == 1
        correlation, p = (None, None) if constant else map(float, spearmanr(disorder, wrong))
        levels = []
        codes = evidence.group_codes
        subsets = (level[:, None] == np.unique(level)).astype(np.int64)
        effect = design_effects(subsets, wrong[:, None], None if codes is None else codes[places])
        for place, i in enumerate(np.unique(level)):
            inside = level == i
            rows, errors = int(inside.sum()), int(wrong[inside].sum())
            low, high = wilson(errors / effect[place, 0], rows / effect[place, 0])
            levels.append(
                AmbiguityLevel(
                    float(agreement[inside].min()), float(agreement[inside].max()),
                    rows, errors, errors / rows, float(low), float(high),
                )
            )  # fmt: skip
        found[method.name] = MethodAmbiguity(levels, correlation, p)
    return found


def _levels(agreement: np.ndarray, most: int) -> np.ndarray:
    values = np.unique(agreement)
    if len(values) <= most:
        return np.searchsorted(values, agreement)
    edges = np.unique(np.quantile(agreement, np.linspace(0, 1, most + 1)[1:-1]))
    return np.searchsorted(edges, agreement)
