"""What the searches of a study came to, as people read it: from the content of `trials.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff.compare import format as fmt
from tuneoff.record import QUALITY_METRICS, Status

Trials = Mapping[str, Any]
"""The content of `trials.json`, which stands in `summary.json` under `tuning`, too."""


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


def outcomes(tuning: Trials) -> list[Outcome]:
    """The searches, in the study's order; methods without one have no trials."""
    return [_outcome(search) for search in tuning["methods"]]


def _outcome(search: Mapping[str, Any]) -> Outcome:
    trials: Sequence[Mapping[str, Any]] = search["trials"]
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


def best_trial(search: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The trial whose settings a method was run with; None where none finished."""
    found: Mapping[str, Any] | None = next(
        (t for t in search["trials"] if t["number"] == search["best"]), None
    )
    return found


def settings_text(settings: Mapping[str, Any]) -> str:
    """`learning rate 0.0012, rank 16`."""
    told = (f"{key.replace('_', ' ')} {fmt.setting(value)}" for key, value in settings.items())
    return ", ".join(told) or fmt.MISSING


def ended_text(outcome: Outcome) -> str:
    """How many trials, and how many of them ended early: `8 (3 pruned, 1 failed)`."""
    counts = {"pruned": outcome.pruned, "failed": outcome.failed}
    early = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f"{outcome.trials} ({early})" if early else str(outcome.trials)


def budget_text(tuning: Trials) -> str:
    """The budget in a sentence."""
    trials, rows = tuning["trials"], tuning["rows"]
    text = f"{trials} {'trial' if trials == 1 else 'trials'} for each method on the validation rows"
    return text + (f", trained on {rows:,} rows." if rows else ".")


def render_tuning(tuning: Trials) -> RenderableType:
    """What `rich` prints for the searches; fits 80 columns."""
    metric = QUALITY_METRICS[tuning["metric"]].title
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold", min_width=8)
    for head in ("trials", "default", "best", "time"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("found", overflow="fold")
    for found in outcomes(tuning):
        cells = [str(found.trials or fmt.MISSING), fmt.score(found.start), fmt.score(found.best)]
        took = fmt.seconds(found.seconds, gap="")
        name = Text(fmt.one_line(found.name))
        table.add_row(name, *map(Text, (*cells, took, settings_text(found.settings))))
    note = f"{metric} on validation. {budget_text(tuning)} The test rows were not read."
    return Group(table, Text(), Text(note, style="dim"))
