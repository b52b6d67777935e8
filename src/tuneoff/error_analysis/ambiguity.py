"""Whether errors follow the annotators' disagreement, where rows were labelled several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.certainty import design_effects, wilson
from tuneoff.error_analysis.evidence import Evidence


@dataclass(frozen=True)
class AmbiguityLevel:
    """The rows on which equally many annotators agreed, under one method."""

    low: float
    high: float
    """Smallest and largest share of annotators behind a row's most frequent label."""
    rows: int
    errors: int
    rate: float
    rate_low: float
    rate_high: float
    """95 % interval of the rate (Wilson)."""


@dataclass(frozen=True)
class MethodAmbiguity:
    """One method's errors against the annotators' disagreement."""

    levels: list[AmbiguityLevel]
    """Least agreement first."""
    correlation: float | None
    """Spearman's, of the entropy of a row's labels and the row being wrong; None if one of them
    is the same for all rows."""
    p: float | None


def entropy(labels: Sequence[str]) -> float:
    """Of one row's labels, in bits: 0 where all annotators agree."""
    shares = np.array(list(Counter(labels).values())) / len(labels)
    return float(max(-(shares * np.log2(shares)).sum(), 0.0))


def ambiguity(
    evidence: Evidence, annotations: Sequence[Sequence[str] | None], most_levels: int = 6
) -> dict[str, MethodAmbiguity]:
    """By method: the error rate by how many annotators agreed, and the rank correlation.

    `annotations`: for every row of the evidence the labels its annotators gave, in any order, or
    None. Rows with fewer than two are left out. At most `most_levels` levels; finer agreement is
    put together into equally full ones. Raises `ValueError` if no row has two labels or the
    number of rows does not fit.

    Pavlick and Kwiatkowski 2019, Inherent Disagreements in Human Textual Inferences; Nie, Zhou
    and Bansal 2020, What Can We Learn from Collective Human Opinions on Natural Language
    Inference Data?
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
