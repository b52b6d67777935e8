"""Errors by true label and by predicted label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.evidence import ErrorEvidence


@dataclass(frozen=True)
class LabelErrors:
    """Errors of one method for one label; means over the seeds."""

    label: str
    """Name of the label."""
    rows: int
    """Number of test rows with this label."""
    missed: float
    """False negatives: rows with this label that were predicted as another one."""
    mistaken: float
    """False positives: rows with other labels that were predicted as this one."""


def labels(evidence: ErrorEvidence) -> dict[str, list[LabelErrors]]:
    """Return the errors by method, for all labels in the order of the label set."""
    size = len(evidence.labels)
    rows = np.bincount(evidence.true, minlength=size)
    found = {}
    for method in evidence.methods:
        missed, mistaken = np.zeros(size), np.zeros(size)
        for run in method.test:
            wrong = run.predicted != evidence.true
            missed += np.bincount(evidence.true[wrong], minlength=size)
            mistaken += np.bincount(run.predicted[wrong], minlength=size)
        seeds = len(method.test)
        found[method.name] = [
            LabelErrors(label, int(rows[i]), missed[i] / seeds, mistaken[i] / seeds)
            for i, label in enumerate(evidence.labels)
        ]
    return found
