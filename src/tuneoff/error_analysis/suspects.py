"""Test rows whose label is likely wrong, by confident learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.evidence import Evidence, mean_probabilities
from tuneoff.exceptions import MissingExtra


@dataclass(frozen=True)
class LabelSuspect:
    """One row whose label the models doubt."""

    place: int
    """Position among the evidence's rows."""
    given: str
    suggested: str
    probability: float
    """Of the given label, mean over the seeds of `method`: the smaller, the more doubtful."""


def label_suspects(evidence: Evidence) -> list[LabelSuspect] | None:
    """Rows whose label confident learning doubts, most doubtful first; None without probabilities.

    The probabilities are those of the contender that is right on most rows, mean over its seeds,
    none of which was trained on these rows. A finding is a row to look at, not a verdict: the
    weaker the model, the more of the labels that it doubts are right. Raises `MissingExtra`
    without cleanlab.

    Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels.
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
        n_jobs=1,  # more are processes, which cost more than they save here
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
