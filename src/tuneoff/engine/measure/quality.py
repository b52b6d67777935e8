"""Scores of the predictions for a split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tuneoff.engine.data.task import Split
from tuneoff.results.record import Scores
from tuneoff.results.scores import scores


def score(split: Split, probabilities: npt.NDArray[np.float32], labels: list[str]) -> Scores:
    """Return the scores of `probabilities` (rows, labels) on `split`.

    `labels` is the study's label set.
    """
    return scores(
        split.labels,
        probabilities.argmax(1),
        probabilities,
        split.weights.astype(np.float64),
        labels,
    )
