"""Calibration of the models' probabilities, and their confidence in wrong predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.evidence import (
    ErrorEvidence,
    Floats,
    Ints,
    MethodPredictions,
    SeedPredictions,
)
from tuneoff.results.metrics import ECE_BINS, confidence_bins
from tuneoff.results.scores import probability_score

TEMPERATURES = (0.05, 20.0)
"""Range in which the temperature is searched."""


@dataclass(frozen=True)
class Margins:
    """Quantiles of the predicted minus the true label's probability, over all seeds' errors."""

    errors: int
    """Number of errors of all seeds."""
    q05: float
    q25: float
    median: float
    q75: float
    q95: float


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram, over all seeds."""

    rows: int
    """Number of predictions."""
    confidence: float
    """Mean probability of the predicted label."""
    accuracy: float
    """Fraction of correct predictions."""


@dataclass(frozen=True)
class Scaling:
    """Effect of temperature scaling; means over the seeds."""

    temperature: float
    """Best temperature on the validation rows; above 1 if the model was overconfident."""
    log_loss: float
    """Log loss in nats on the test rows with this temperature."""
    ece: float
    """Expected calibration error on the test rows with this temperature."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of one method's probabilities; means over the seeds."""

    log_loss: float
    """Log loss in nats."""
    ece: float
    """Expected calibration error over 15 bins of equal width, as in the record."""
    bins: list[Bin]
    """Bins of the reliability diagram."""
    margins: Margins | None
    """Confidence in wrong predictions; None without errors."""
    scaling: Scaling | None
    """Effect of temperature scaling; None without validation rows."""


def confidence(evidence: ErrorEvidence) -> dict[str, Calibration]:
    """Analyse the calibration and the confident errors of all methods with probabilities.

    Guo et al. 2017, On Calibration of Modern Neural Networks: the reliability diagram, the
    expected calibration error, and temperature scaling. Each seed is analysed separately, because
    averaging the probabilities of seeds would change their calibration.
    """
    return {
        method.name: _calibration(evidence, method)
        for method in evidence.methods
        if all(run.probabilities is not None for run in method.test)
    }


def _calibration(evidence: ErrorEvidence, method: MethodPredictions) -> Calibration:
    true, weights = evidence.true, evidence.weights
    found = [run.probabilities for run in method.test if run.probabilities is not None]
    return Calibration(
        log_loss=float(np.mean([probability_score("log_loss", true, p, weights) for p in found])),
        ece=float(np.mean([probability_score("ece", true, p, weights) for p in found])),
        bins=_bins(true, method.test),
        margins=_margins(true, method.test),
        scaling=_scaling(evidence, method),
    )


def _bins(true: Ints, runs: Sequence[SeedPredictions]) -> list[Bin]:
    every = np.arange(len(true))
    confidence = np.concatenate(
        [r.probabilities[every, r.predicted] for r in runs if r.probabilities is not None]
    )
    right = np.concatenate([r.predicted == true for r in runs])
    place = confidence_bins(confidence)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (place == i for i in range(ECE_BINS))
        if inside.any()
    ]


def _margins(true: Ints, runs: Sequence[SeedPredictions]) -> Margins | None:
    found = np.concatenate([margins(true, run)[run.predicted != true] for run in runs])
    if not len(found):
        return None
    return Margins(
        len(found), *(float(q) for q in np.quantile(found, [0.05, 0.25, 0.5, 0.75, 0.95]))
    )


def margins(true: Ints, run: SeedPredictions) -> Floats:
    """Return the (rows,) probabilities of the predicted minus the true label; 0 if correct."""
    if run.probabilities is None:
        raise ValueError("the run has no probabilities")
    every = np.arange(len(true))
    difference: Floats = run.probabilities[every, run.predicted] - run.probabilities[every, true]
    return difference


def _scaling(evidence: ErrorEvidence, method: MethodPredictions) -> Scaling | None:
    if not len(evidence.validation_true):
        return None
    found = []
    for validation, test in zip(method.validation, method.test, strict=False):
        if validation.probabilities is None or test.probabilities is None:
            return None
        t = temperature(evidence.validation_true, validation.probabilities)
        scaled = softened(test.probabilities, t)
        found.append(
            (
                t,
                probability_score("log_loss", evidence.true, scaled, evidence.weights),
                probability_score("ece", evidence.true, scaled, evidence.weights),
            )
        )
    return Scaling(*(float(v) for v in np.mean(found, 0))) if found else None


def temperature(true: Ints, probabilities: Floats) -> float:
    """Find the temperature with the lowest log loss, between 0.05 and 20.

    The log loss is convex in the inverse temperature, because it is not clipped here (unlike in
    the record).

    Args:
        true: (rows,) indices of the true labels.
        probabilities: (rows, labels) probabilities.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logits = _logits(probabilities)
    of_true = logits[np.arange(len(true)), true]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(logsumexp(logits * scale, axis=1) - of_true * scale))

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def _logits(probabilities: Floats) -> Floats:
    """Return logits up to a constant per row, which the softmax cancels; finite for p = 0."""
    logits: Floats = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return logits


def softened(probabilities: Floats, temperature: float) -> Floats:
    """Return the (rows, labels) probabilities after dividing the logits by `temperature`."""
    logits = _logits(probabilities) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    scaled: Floats = powers / powers.sum(1, keepdims=True)
    return scaled
