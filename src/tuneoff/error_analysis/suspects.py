"""Test rows whose label is probably wrong, by confident learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.evidence import ErrorEvidence, mean_probabilities
from tuneoff.exceptions import MissingExtra


@dataclass(frozen=True)
class LabelSuspect:
    """A row whose label is probably wrong."""

    place: int
    """Index of the row in the evidence."""
    given: str
    """Label in the data."""
    suggested: str
    """Most probable label according to the model."""
    probability: float
    """Probability of the given label, mean over the seeds; low values are the most doubtful."""


def label_suspects(evidence: ErrorEvidence) -> list[LabelSuspect] | None:
    """Find rows whose label is probably wrong, by confident learning.

    The probabilities are those of the contender with the highest accuracy, averaged over its seeds,
    which were not trained on these rows. Findings are candidates for review: the weaker the model,
    the more of them have a correct label.

    Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels.

    Returns:
        The rows, most doubtful first; None without probabilities.

    Raises:
        MissingExtra: If cleanlab is not installed.
    """
    by_accuracy = sorted(evidence.contenders, key=lambda m: evidence.wrong[m.name].mean())
    found_in = (mean_probabilities(method.test) for method in by_accuracy)
    probable = next((p for p in found_in if p is not None), None)
    if probable is None or len(evidence.labels) < 2:
        return None
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise MissingExtra("cleanlab", "label-errors", "Finding likely label errors") from None
    probable = probable / probable.sum(1, keepdims=True)
    found = find_label_issues(
        labels=evidence.true,
        pred_probs=probable,
        return_indices_ranked_by="self_confidence",
        n_jobs=1,  # starting more processes takes longer than they save
    )
    return [
        LabelSuspect(
            int(i),
            evidence.labels[evidence.true[i]],
            evidence.labels[int(np.argmax(probable[i]))],
            float(probable[i, evidence.true[i]]),
        )
        for i in found
    ]
