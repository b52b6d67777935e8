"""How sure the models are: of their errors, and whether their probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.evidence import Evidence, Floats, Ints, MethodAnswers, RunAnswers
from tuneoff.results.metrics import ECE_BINS, confidence_bins
from tuneoff.results.scores import probability_score

TEMPERATURES = (0.05, 20.0)
"""Between which a temperature is sought."""


@dataclass(frozen=True)
class Margins:
    """The predicted label's probability less the true one's, over the errors of all seeds."""

    errors: int
    q05: float
    q25: float
    median: float
    q75: float
    q95: float


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram, over all seeds."""

    rows: int
    confidence: float
    """Mean probability of the predicted label."""
    accuracy: float


@dataclass(frozen=True)
class Scaling:
    """What one temperature for all logits mends; means over the seeds."""

    temperature: float
    """Above 1: the model was too sure of itself."""
    log_loss: float
    """On the test rows, with the temperature that fits the validation rows best."""
    ece: float


@dataclass(frozen=True)
class Calibration:
    """One method's probabilities; log loss in nats and ECE are means over the seeds."""

    log_loss: float
    ece: float
    """Expected calibration error over 15 equally wide bins, as in the record."""
    bins: list[Bin]
    margins: Margins | None
    """None where there is no error."""
    scaling: Scaling | None
    """None without validation rows."""


def confidence(evidence: Evidence) -> dict[str, Calibration]:
    """Calibration and confident errors of the methods that have probabilities.

    Guo et al. 2017, On Calibration of Modern Neural Networks: the reliability diagram, the
    expected calibration error, and temperature scaling. Seeds are looked at one by one: putting
    their probabilities together would change the calibration that is to be seen.
    """
    return {
        method.name: _calibration(evidence, method)
        for method in evidence.methods
        if all(run.probabilities is not None for run in method.test)
    }


def _calibration(evidence: Evidence, method: MethodAnswers) -> Calibration:
    true, weights = evidence.true, evidence.weights
    found = [run.probabilities for run in method.test if run.probabilities is not None]
    return Calibration(
        log_loss=float(np.mean([probability_score("log_loss", true, p, weights) for p in found])),
        ece=float(np.mean([probability_score("ece", true, p, weights) for p in found])),
        bins=_bins(true, method.test),
        margins=_margins(true, method.test),
        scaling=_scaling(evidence, method),
    )


def _bins(true: Ints, runs: Sequence[RunAnswers]) -> list[Bin]:
    every = np.arange(len(true))
    sure = np.concatenate(
        [r.probabilities[every, r.predicted] for r in runs if r.probabilities is not None]
    )
    right = np.concatenate([r.predicted == true for r in runs])
    place = confidence_bins(sure)
    return [
        Bin(int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean()))
        for inside in (place == i for i in range(ECE_BINS))
        if inside.any()
    ]


def _margins(true: Ints, runs: Sequence[RunAnswers]) -> Margins | None:
    found = np.concatenate([margins(true, run)[run.predicted != true] for run in runs])
    if not len(found):
        return None
    return Margins(
        len(found), *(float(q) for q in np.quantile(found, [0.05, 0.25, 0.5, 0.75, 0.95]))
    )


def margins(true: Ints, run: RunAnswers) -> Floats:
    """(rows,) the predicted label's probability less the true one's: 0 where it is right."""
    if run.probabilities is None:
        raise ValueError("no probabilities")
    every = np.arange(len(true))
    difference: Floats = run.probabilities[every, run.predicted] - run.probabilities[every, true]
    return difference


def _scaling(evidence: Evidence, method: MethodAnswers) -> Scaling | None:
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
    """The temperature with the least log loss on these rows, between 0.05 and 20.

    `true`: (rows,) positions; `probabilities`: (rows, labels). The log loss is convex in the
    inverse temperature, as long as it is not clipped as the record's is.
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
    """Up to a number per row, which the softmax cancels; finite where a probability is 0."""
    logits: Floats = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return logits


def softened(probabilities: Floats, temperature: float) -> Floats:
    """(rows, labels) as if the logits had been divided by `temperature` before the softmax."""
    logits = _logits(probabilities) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    scaled: Floats = powers / powers.sum(1, keepdims=True)
    return scaled
