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
    """One method's search in numbers."""

    name: str
    trials: int
    pruned: int
    failed: int
    """Diverged, out of memory, or broken off."""
    start: float | None
    """Validation score of the first trial, which has the study's settings; None: no score."""
    best: float | None
    settings: dict[str, Any]
    """Those of the best trial; empty where there is none."""
    seconds: float | None
    """Of all trials together."""


def outcomes(tuning: Tuning) -> list[Outcome]:
    """The searches, in the study's order; methods without one have no trials."""
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
    """The trial whose settings a method was run with; None where none finished."""
    return next((t for t in search["trials"] if t["number"] == search["best"]), None)


def settings_text(settings: Mapping[str, Any]) -> str:
    """`learning rate 0.0012, rank 16`."""
    told = (f"{key.replace('_', ' ')} {fmt.setting(value)}" for key, value in settings.items())
    return ", ".join(told) or fmt.MISSING


def ended_text(outcome: Outcome) -> str:
    """How many trials, and how many of them ended early: `8 (3 pruned, 1 failed)`."""
    counts = {"pruned": outcome.pruned, "failed": outcome.failed}
    early = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f"{outcome.trials} ({early})" if early else str(outcome.trials)


def budget_text(tuning: Tuning) -> str:
    """The budget in a sentence."""
    trials, rows = tuning["trials"], tuning["rows"]
    text = f"{trials} {'trial' if trials == 1 else 'trials'} for each method on the validation rows"
    return text + (f", trained on {rows:,} rows." if rows else ".")
