"""What the searches of a study came to: `trials/trials.json`, for the audit and the report."""

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
"""Of `trials.json`; raised when a field changes its meaning."""

SETTLED = (Status.FINISHED, Status.PRUNED, Status.DIVERGED)
"""How a trial ends that is not run again: the same settings would end alike."""


@dataclass(frozen=True)
class Tried:
    """One trial that has ended."""

    number: int
    """From 1, which has the settings of the study."""
    settings: Settings
    run_id: str
    status: Status
    score: float | None
    """On validation, by the study's metric, at the best epoch; None: it did not finish."""
    scores: list[float]
    """The same after each epoch."""
    seconds: float | None
    """From the start of the trial's process to its record."""
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
    """A trial from what its run left."""
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
    """The search for one entry of a study."""

    entry: MethodSpec
    """As the study has it."""
    start: Settings
    space: dict[str, Range]
    """Empty: the method has nothing that the search varies, and gets no trials."""
    higher_is_better: bool
    tried: list[Tried] = field(default_factory=list)

    @property
    def best(self) -> Tried | None:
        """The trial with the best score, of equals the first; None where none finished."""
        sign = 1 if self.higher_is_better else -1
        done = [t for t in self.tried if t.status is Status.FINISHED and t.score is not None]
        return max(done, key=lambda t: (sign * (t.score or 0.0), -t.number), default=None)

    @property
    def tuned(self) -> MethodSpec:
        """The entry with the settings that were found; as it was where the first trial is best."""
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
    """The searches of all methods of a study, in its order."""

    tune: TuneSpec
    metric: str
    searches: list[MethodSearch]

    @property
    def methods(self) -> tuple[MethodSpec, ...]:
        """The study's methods with the settings that were found."""
        return tuple(search.tuned for search in self.searches)

    @property
    def complete(self) -> bool:
        """Whether each search spent its budget, and no trial ended for want of memory or worse."""
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
    """Whether a search looks for the greatest value of this metric."""
    return QUALITY_METRICS[metric].higher_is_better
