"""The rows worth reading: those on which methods disagree, and those they get wrong for sure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from tuneoff.error_analysis.confidence import margins
from tuneoff.error_analysis.evidence import Evidence, Floats, Ints, mean_probabilities
from tuneoff.error_analysis.suspects import LabelSuspect

LISTED = 300
"""Rows at the most; 25,000 of them would make a report that no browser opens."""
CHARACTERS = 400
"""Of each text."""

KINDS = {
    "confident": "confident error",
    "disagreement": "methods disagree",
    "all wrong": "wrong under all",
    "label": "label in doubt",
}
"""Why a row is listed, by key, as people read it."""


@dataclass(frozen=True)
class RowAnswer:
    """What one method said of a row."""

    method: str
    label: str
    probability: float | None
    """Of that label, mean over the seeds."""
    right: bool


@dataclass(frozen=True)
class ListedRow:
    """One row with its texts, cut, and every method's answer."""

    id: Hashable
    label: str
    text: str | None
    pair: str | None
    kinds: tuple[str, ...]
    """Keys of `KINDS`."""
    answers: list[RowAnswer]


def listed_rows(
    evidence: Evidence, suspects: list[LabelSuspect] | None = None, most: int = LISTED
) -> list[ListedRow]:
    """At most `most` rows, an equal share for each reason there is, each reason's clearest first.

    Confident errors go by the probability of the wrong label less that of the true one, mean over
    the contenders; disagreements by how evenly the contenders fall into right and wrong.
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
    """Up to `most` places with their reasons: the first of each reason, then the second, …"""
    kinds: dict[int, list[str]] = {}
    for rank in range(max(map(len, candidates.values()))):
        for kind, places in candidates.items():
            if rank < len(places) and (len(kinds) < most or int(places[rank]) in kinds):
                kinds.setdefault(int(places[rank]), []).append(kind)
        if len(kinds) >= most:
            break
    return kinds


def _mean_margin(evidence: Evidence) -> Floats:
    """(rows,) mean over the contenders' runs; without probabilities the share that is wrong."""
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
    """Positions of the positive scores, largest first."""
    order: Ints = np.argsort(-scores, kind="stable").astype(np.int64)
    return order[scores[order] > 0]


def _none() -> Ints:
    return np.empty(0, np.int64)


def _listed(
    evidence: Evidence, i: int, kinds: tuple[str, ...], probable: dict[str, Floats | None]
) -> ListedRow:
    answers = []
    for method in evidence.methods:
        answer = int(evidence.answers[method.name][i])
        of_method = probable[method.name]
        answers.append(
            RowAnswer(
                method.name,
                evidence.labels[answer],
                None if of_method is None else float(of_method[i, answer]),
                bool(answer == evidence.true[i]),
            )
        )
    return ListedRow(
        id=evidence.ids[i],
        label=evidence.labels[evidence.true[i]],
        text=cut(evidence.texts[i]) if evidence.texts else None,
        pair=cut(evidence.pairs[i]) if evidence.pairs else None,
        kinds=kinds,
        answers=answers,
    )


def cut(text: str) -> str:
    """The start of a text, and an ellipsis where there is more."""
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1].rstrip() + "…"
