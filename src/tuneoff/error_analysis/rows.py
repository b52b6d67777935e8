"""Selection of test rows to read: confident errors, disagreements and doubtful labels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.confidence import margins
from tuneoff.error_analysis.evidence import ErrorEvidence, Floats, Ints, mean_probabilities
from tuneoff.error_analysis.suspects import LabelSuspect

LISTED = 300
"""Maximum number of rows; a report with 25,000 rows would not open in a browser."""
CHARACTERS = 400
"""Maximum length of each text in characters."""

KINDS = {
    "confident": "confident error",
    "disagreement": "methods disagree",
    "all wrong": "all methods wrong",
    "label": "label possibly wrong",
}
"""Displayed reasons for listing a row, by key."""


@dataclass(frozen=True)
class RowPrediction:
    """Prediction of one method for a row."""

    method: str
    """Name of the method."""
    label: str
    """Predicted label."""
    probability: float | None
    """Probability of this label, mean over the seeds; None without probabilities."""
    right: bool
    """Whether the prediction is correct."""


@dataclass(frozen=True)
class ListedRow:
    """A row with its shortened texts and the predictions of all methods."""

    id: Hashable
    """Row number in the source file, or another id."""
    label: str
    """True label."""
    text: str | None
    """Shortened text, or first text of a pair."""
    pair: str | None
    """Shortened second text of a pair."""
    kinds: tuple[str, ...]
    """Reasons for listing the row; keys of `KINDS`."""
    predictions: list[RowPrediction]
    """Predictions of all methods."""


def listed_rows(
    evidence: ErrorEvidence, suspects: list[LabelSuspect] | None = None, most: int = LISTED
) -> list[ListedRow]:
    """Select at most `most` rows, about equally many for each reason, the clearest cases first.

    Confident errors are ranked by the probability of the wrong label minus that of the true label,
    mean over the contenders. Disagreements are ranked by how evenly the contenders are divided into
    correct and wrong ones.
    """
    names = [m.name for m in evidence.contenders]
    wrong = np.stack([evidence.wrong[name] for name in names])
    share = wrong.mean(0)
    surely = _mean_margin(evidence)
    mixed = (share > 0) & (share < 1)
    candidates: dict[str, Ints] = {
        "confident": _first(np.where(surely > 0, surely, 0.0)),
        "disagreement": _first(np.where(mixed, 1 - abs(share - 0.5) + surely * 1e-3, 0.0)),
        "all wrong": _first(np.where(share == 1, 1 + surely, 0.0)) if len(names) > 1 else _none(),
        "label": np.array([s.place for s in suspects or ()], np.int64),
    }
    kinds = _in_turn(candidates, most)
    order = sorted(kinds, key=lambda i: (-surely[i], i))
    probable = {m.name: mean_probabilities(m.test) for m in evidence.methods}
    return [_listed(evidence, i, tuple(kinds[i]), probable) for i in order]


def _in_turn(candidates: dict[str, Ints], most: int) -> dict[int, list[str]]:
    """Select up to `most` rows in turns: the first row of each reason, then the second of each."""
    kinds: dict[int, list[str]] = {}
    for rank in range(max(map(len, candidates.values()))):
        for kind, places in candidates.items():
            if rank < len(places) and (len(kinds) < most or int(places[rank]) in kinds):
                kinds.setdefault(int(places[rank]), []).append(kind)
        if len(kinds) >= most:
            break
    return kinds


def _mean_margin(evidence: ErrorEvidence) -> Floats:
    """Return the (rows,) mean margin over the contenders' runs.

    The margin of a run without probabilities is 1 for an error and 0 otherwise.
    """
    found: list[Floats] = []
    for method in evidence.contenders:
        for run in method.test:
            if run.probabilities is None:
                found.append((run.predicted != evidence.true).astype(np.float64))
            else:
                found.append(margins(evidence.true, run))
    mean: Floats = np.mean(found, 0)
    return mean


def _first(scores: Floats) -> Ints:
    """Return the indices of the positive scores, largest first."""
    order: Ints = np.argsort(-scores, kind="stable").astype(np.int64)
    return order[scores[order] > 0]


def _none() -> Ints:
    return np.empty(0, np.int64)


def _listed(
    evidence: ErrorEvidence, i: int, kinds: tuple[str, ...], probable: dict[str, Floats | None]
) -> ListedRow:
    predictions = []
    for method in evidence.methods:
        predicted = int(evidence.predictions[method.name][i])
        of_method = probable[method.name]
        predictions.append(
            RowPrediction(
                method.name,
                evidence.labels[predicted],
                None if of_method is None else float(of_method[i, predicted]),
                bool(predicted == evidence.true[i]),
            )
        )
    return ListedRow(
        id=evidence.ids[i],
        label=evidence.labels[evidence.true[i]],
        text=cut(evidence.texts[i]) if evidence.texts else None,
        pair=cut(evidence.pairs[i]) if evidence.pairs else None,
        kinds=kinds,
        predictions=predictions,
    )


def cut(text: str) -> str:
    """Shorten a long text to `CHARACTERS` characters with an ellipsis."""
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1].rstrip() + "…"
