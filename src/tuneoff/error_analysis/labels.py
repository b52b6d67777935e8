"""Which labels the errors fall on: by the true label, and by the one predicted in its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.evidence import Evidence


@dataclass(frozen=True)
class LabelErrors:
    """One label under one method; errors are means over the seeds."""

    label: str
    rows: int
    """Test rows of this label."""
    missed: float
    """Rows of this label that were given another one."""
    mistaken: float
    """Rows of other labels that were given this one."""


def labels(evidence: Evidence) -> dict[str, list[LabelErrors]]:
    """By method, every label of the study in its order."""
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
