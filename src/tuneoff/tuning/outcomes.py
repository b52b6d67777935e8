"""Summary of the searches of a study, from the content of `trials.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.results.record import Status
from tuneoff.results.summary import MethodTuning, TrialResult, Tuning


@dataclass(frozen=True)
class Outcome:
    """Result of the search of one method, in numbers."""

    name: str
    trials: int
    pruned: int
    failed: int
    """Number of trials that diverged, ran out of memory, failed or were interrupted."""
    start: float | None
    """Validation score of the first trial, which has the study's settings; None: no score."""
    best: float | None
    """Validation score of the best trial; None if none finished."""
    settings: dict[str, Any]
    """Settings of the best trial; empty if none finished."""
    seconds: float | None
    """Total time of all trials."""


def outcomes(tuning: Tuning) -> list[Outcome]:
    """Return the result of each method in the order of the study, also if it has no trials."""
    return [_outcome(search) for search in tuning["methods"]]


def _outcome(search: MethodTuning) -> Outcome:
    trials = search["trials"]
    best = best_trial(search)
    seconds = [t["seconds"] for t in trials if t["seconds"] is not None]
    ends = [t["status"] for t in trials]
    pruned = ends.count(str(Status.PRUNED))
    return Outcome(
        name=search["name"],
        trials=len(trials),
        pruned=pruned,
        failed=len(ends) - pruned - ends.count(str(Status.FINISHED)),
        start=trials[0]["score"] if trials else None,
        best=best["score"] if best else None,
        settings=dict(best["settings"]) if best else {},
        seconds=sum(seconds) if seconds else None,
    )


def best_trial(search: MethodTuning) -> TrialResult | None:
    """Return the trial whose settings the method was run with; None if none finished."""
    return next((t for t in search["trials"] if t["number"] == search["best"]), None)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as text: `learning rate 0.0012, rank 16`."""
    texts = (f"{key.replace('_', ' ')} {fmt.setting(value)}" for key, value in settings.items())
    return ", ".join(texts) or fmt.MISSING


def ended_text(outcome: Outcome) -> str:
    """Return the number of trials, and of those that ended early: `8 (3 pruned, 1 failed)`."""
    counts = {"pruned": outcome.pruned, "failed": outcome.failed}
    early = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f"{outcome.trials} ({early})" if early else str(outcome.trials)


def budget_text(tuning: Tuning) -> str:
    """Return the budget as a sentence."""
    trials, rows = tuning["trials"], tuning["rows"]
    text = f"{trials} {'trial' if trials == 1 else 'trials'} for each method on the validation rows"
    return text + (f", trained on {rows:,} rows." if rows else ".")
