"""Results of the searches of a study: `trials/trials.json`, for the audit and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff.config import MethodSpec, RunSpec, TuneSpec
from tuneoff.methods.search_ranges import Range
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.summary import MethodTuning, TrialResult, Tuning
from tuneoff.tuning.space import Settings, range_to_plain, with_settings

SCHEMA = 1
"""Version of `trials.json`, raised when the meaning of a field changes."""

SETTLED = (Status.FINISHED, Status.PRUNED, Status.DIVERGED)
"""Statuses of trials that are not run again, because the result would be the same."""


@dataclass(frozen=True)
class Tried:
    """A trial that has ended."""

    number: int
    """Number of the trial, from 1; the first one has the settings of the study."""
    settings: Settings
    """Values of the searched settings."""
    run_id: str
    status: Status
    score: float | None
    """Validation score of the best epoch in the study's metric; None if it did not finish."""
    scores: list[float]
    """Validation score after each epoch."""
    seconds: float | None
    """Time from the start of the trial's process to its record."""
    error: str | None = None

    def to_plain(self) -> TrialResult:
        """Return plain values for JSON."""
        return {
            "number": self.number,
            "settings": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.settings.items()
            },
            "run_id": self.run_id,
            "status": str(self.status),
            "score": self.score,
            "scores": self.scores,
            "seconds": self.seconds,
            "error": self.error,
        }


def tried(
    spec: RunSpec, settings: Settings, record: RunRecord, history: Sequence[dict[str, Any]]
) -> Tried:
    """Return a trial from its specification, record and history."""
    assert spec.trial is not None
    validation = record.quality.validation
    by_epoch = {
        float(row["epoch"]): float(row[spec.metric])
        for row in history
        if row.get("kind") == "validation" and row.get(spec.metric) is not None
    }
    return Tried(
        number=spec.trial.number,
        settings=settings,
        run_id=record.run_id,
        status=record.status,
        score=getattr(validation, spec.metric) if validation else None,
        scores=[by_epoch[epoch] for epoch in sorted(by_epoch)],
        seconds=record.cost.total_seconds,
        error=record.error,
    )


@dataclass
class MethodSearch:
    """Search of one entry of a study."""

    entry: MethodSpec
    """The entry before the search."""
    start: Settings
    """Its values of the searched settings."""
    space: dict[str, Range]
    """Range of each searched setting; if it is empty, the method has no trials."""
    higher_is_better: bool
    tried: list[Tried] = field(default_factory=list)

    @property
    def best(self) -> Tried | None:
        """The finished trial with the best score, the first one of ties; None if none finished."""
        sign = 1 if self.higher_is_better else -1
        done = [t for t in self.tried if t.status is Status.FINISHED and t.score is not None]
        return max(done, key=lambda t: (sign * (t.score or 0.0), -t.number), default=None)

    @property
    def tuned(self) -> MethodSpec:
        """The entry with the settings of the best trial; unchanged if that is the first trial."""
        best = self.best
        if best is None or best.settings == self.start:
            return self.entry
        return with_settings(self.entry, best.settings)

    def to_plain(self) -> MethodTuning:
        """Return plain values for JSON."""
        return {
            "name": self.entry.name,
            "method": self.entry.method,
            "space": {name: range_to_plain(own) for name, own in self.space.items()},
            "best": self.best.number if self.best else None,
            "trials": [t.to_plain() for t in self.tried],
        }


@dataclass(frozen=True)
class Tuned:
    """Searches of all methods of a study, in its order."""

    tune: TuneSpec
    metric: str
    searches: list[MethodSearch]

    @property
    def methods(self) -> tuple[MethodSpec, ...]:
        """The study's methods with the settings of their best trials."""
        return tuple(search.tuned for search in self.searches)

    @property
    def complete(self) -> bool:
        """Whether each search has all its trials, and none failed or ran out of memory."""
        return all(
            len(search.tried) == (self.tune.trials if search.space else 0)
            and all(t.status in SETTLED for t in search.tried)
            for search in self.searches
        )

    def to_plain(self) -> Tuning:
        """Return the content of `trials.json`."""
        return {
            "schema": SCHEMA,
            "metric": self.metric,
            "trials": self.tune.trials,
            "over": list(self.tune.over),
            "rows": self.tune.rows,
            "seed": self.tune.seed,
            "pruning": self.tune.prune,
            "methods": [search.to_plain() for search in self.searches],
        }


def higher_is_better(metric: str) -> bool:
    """Return whether a search maximises this metric."""
    return QUALITY_METRICS[metric].higher_is_better
