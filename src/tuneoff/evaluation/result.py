"""Evaluation of trained runs on newly labelled rows, compared with the test rows of their study.

Intervals are over rows only: the models are given. Each run's interval is a percentile bootstrap of
the new rows; the difference to its score on the test rows resamples both sets independently
(Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tuneoff.comparison.bootstrap import PairedPredictions, RunPredictions
from tuneoff.comparison.pairwise import pairwise
from tuneoff.results.metrics import QUALITY_METRICS, Floats
from tuneoff.results.record import Quantiles, Scores
from tuneoff.results.summary import Pairwise

SCHEMA = 1
"""Version of the JSON form, raised when the meaning of a field changes."""
SIGNIFICANT = 0.01
"""Significance level of the tests for a data shift. It is low because there are many over time."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval over rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TextStatistics:
    """Lengths and unknown tokens of texts, in tokens of the model's tokenizer."""

    lengths: Quantiles
    truncated_rows: int
    """Number of rows longer than the `max_length` of the run."""
    unknown_share: float
    """Share of tokens that the tokenizer does not know, without special tokens."""


@dataclass(frozen=True)
class EvaluatedRun:
    """Scores of one run on the new rows."""

    run_id: str
    name: str
    """Name of the method in its study."""
    seed: int
    scores: Scores
    intervals: dict[str, Interval]
    """By metric, on the new rows."""
    differences: dict[str, Interval]
    """By metric, new rows minus test rows of the study; empty without predictions of these."""


@dataclass(frozen=True)
class LabelShift:
    """Difference of the label distributions of the new rows and the study's test rows."""

    distance: float
    """Total variation distance, in [0, 1]."""
    p: float
    """P value of a chi-squared test of homogeneity."""


@dataclass(frozen=True)
class Evaluation:
    """Result of `tuneoff evaluate`."""

    source: str
    rows: int
    labels: dict[str, int]
    """Number of new rows by label."""
    test_labels: dict[str, int] | None
    """Number of test rows of the study by label; None without them."""
    runs: list[EvaluatedRun]
    metric: str
    """The study's metric."""
    label_shift: LabelShift | None
    texts: TextStatistics | None
    test_texts: TextStatistics | None
    pairwise: Pairwise | None
    """The runs compared with each other, as in `summary.json`; None for a single run."""

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = asdict(self)
        for run, evaluated in zip(plain["runs"], self.runs, strict=True):
            run["scores"] = evaluated.scores.to_plain()
        return {"schema": SCHEMA, **plain}


def intervals(
    new: Sequence[RunPredictions], tests: Sequence[RunPredictions | None], labels: int
) -> list[tuple[dict[str, Interval], dict[str, Interval]]]:
    """Return, for each run, its scores on the new rows and their differences to the test rows.

    Args:
        new: Predictions of each run on the new rows, all on the same rows.
        tests: Predictions of each run on the test rows of its study, as far as they are known.
        labels: Number of labels.
    """
    panel = PairedPredictions.of(new, labels)
    points, draws = _scored(panel)
    results = []
    for place, test in enumerate(tests):
        own = {key: _interval(points[key][place], draws[key][:, place]) for key in points}
        differences: dict[str, Interval] = {}
        if test is not None:
            past = PairedPredictions.of([test], labels)
            old_points, old_draws = _scored(past)
            differences = {
                key: _interval(
                    points[key][place] - old_points[key][0],
                    draws[key][:, place] - _shuffled(old_draws[key][:, 0]),
                )
                for key in points
                if key in old_points
            }
        results.append((own, differences))
    return results


def _scored(panel: PairedPredictions) -> tuple[dict[str, Floats], dict[str, Floats]]:
    metrics = panel.metrics(list(QUALITY_METRICS))
    return panel.scores(metrics), panel.bootstrap(metrics)


def _interval(value: float, draws: Floats) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def _shuffled(draws: Floats) -> Floats:
    """Return the draws in another order: the two sets of rows are resampled independently."""
    return np.random.default_rng(0).permutation(draws)


def label_shift(new: Mapping[str, int], test: Mapping[str, int]) -> LabelShift | None:
    """Return the difference of two label distributions; None if one of them is empty.

    Args:
        new: Number of rows by label.
        test: The same of the test rows.
    """
    from scipy.stats import chi2_contingency

    names = [name for name in sorted({*new, *test}) if new.get(name, 0) + test.get(name, 0)]
    table = np.array([[counts.get(name, 0) for name in names] for counts in (new, test)], float)
    if not table.sum(1).all():
        return None
    fractions = table / table.sum(1, keepdims=True)
    p = chi2_contingency(table).pvalue if len(names) > 1 else 1.0
    return LabelShift(float(abs(fractions[0] - fractions[1]).sum() / 2), float(p))


def compared(
    runs: Mapping[str, Sequence[RunPredictions]], metric: str, labels: int, margin: float
) -> Pairwise | None:
    """Compare the methods on the new rows, as a study does on its test rows.

    Args:
        runs: Predictions by method, one for each seed.
        metric: Key of the metric.
        labels: Number of labels.
        margin: Difference of the metric that does not matter.
    """
    if len(runs) < 2:
        return None
    return pairwise(runs, metric, labels=labels, margin=margin)
