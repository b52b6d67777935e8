"""Figure of the searches: best score against the budget spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.report.figures.base import Figure, Material, Plot, axis, heading, layout, text
from tuneoff.report.palette import Style, colour
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.summary import MethodTuning, TrialResult, Tuning
from tuneoff.tuning.outcomes import settings_text


def quality_against_budget(material: Material) -> Figure | None:
    """Return plots of the best validation score so far, by number of trials and by time."""
    tuning = material.summary["tuning"]
    if not tuning:
        return None
    searches = [search for search in tuning["methods"] if _reached(search["trials"], tuning)]
    if not searches:
        return None
    title = QUALITY_METRICS[tuning["metric"]].title
    return Figure(
        "tuning-budget",
        "Best score by budget",
        f"Lines: best {title} on the validation rows so far. Markers: single trials; open markers "
        "are trials that were stopped early. Trials far from the lines are outside of the plot. "
        "The first trial has the study's own settings. If a line still improves at its end, more "
        "trials may help; if it is flat from the start, the default settings were already good. "
        "The trials did not use the test rows.",
        [
            _plot(material, tuning, searches, title, time=False),
            _plot(material, tuning, searches, title, time=True),
        ],
    )


def _plot(
    material: Material,
    tuning: Tuning,
    searches: Sequence[MethodTuning],
    title: str,
    *,
    time: bool,
) -> Plot:
    traces: list[dict[str, Any]] = []
    for search in searches:
        trials = search["trials"]
        spent = _seconds(trials) if time else [float(t["number"]) for t in trials]
        traces += _traces(search["name"], material.styles[search["name"]], trials, spent, tuning)
    last = max(len(s["trials"]) for s in searches)
    steps = {} if time else {"dtick": max(1, round(last / 8)), "tick0": 0}
    budget = "total time of all trials, in seconds" if time else "number of trials"
    return Plot(
        "tuning-seconds" if time else "tuning-trials",
        f"Line chart of the best {title} on validation so far against {budget}, for each method",
        traces,
        layout(
            title=heading(f"best {title} on validation"),
            xaxis=axis(budget, rangemode="tozero", **steps),
            yaxis=axis(nticks=7, range=_range(searches, tuning)),
        ),
        330,
    )


def _range(searches: Sequence[MethodTuning], tuning: Tuning) -> list[float]:
    """Return the range of the lines with a margin; single trials may be outside of it."""
    best = [_reached(search["trials"], tuning) for search in searches]
    values = [score for line in best for score in line if score is not None]
    margin = 0.08 * (max(values) - min(values)) or 0.02
    return [min(values) - margin, max(values) + margin]


def _traces(
    name: str,
    style: Style,
    trials: Sequence[TrialResult],
    spent: Sequence[float],
    tuning: Tuning,
) -> list[dict[str, Any]]:
    best = _reached(trials, tuning)
    single = [(x, t) for x, t in zip(spent, trials, strict=True) if _score(t, tuning) is not None]
    paint = colour(style.colour)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, y in zip(spent, best, strict=True) if y is not None],
            "y": [y for y in best if y is not None],
            "line": {"color": paint, "width": 2, "dash": style.dash, "shape": "hv"},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x for x, _ in single],
            "y": [_score(t, tuning) for _, t in single],
            "marker": {
                "color": [colour("paper") if t["score"] is None else paint for _, t in single],
                "size": 7,
                "symbol": style.symbol,
                "line": {"color": paint, "width": 1.4},
            },
            "customdata": [_tooltip(name, t) for _, t in single],
            "hovertemplate": "%{customdata}<br>%{y:.4f}<extra></extra>",
        },
    ]


def _tooltip(name: str, trial: TrialResult) -> str:
    ended = "" if trial["score"] is not None else f" ({trial['status']})"
    title = f"<b>{text(name, 60)}</b>, trial {trial['number']}{ended}"
    return f"{title}<br>{text(settings_text(trial['settings']), 80)}"


def _score(trial: TrialResult, tuning: Tuning) -> float | None:
    """Return the score of a trial; for one that was stopped early, its best score so far."""
    if trial["score"] is not None:
        return float(trial["score"])
    if not trial["scores"]:
        return None
    pick = max if QUALITY_METRICS[tuning["metric"]].higher_is_better else min
    return float(pick(trial["scores"]))


def _reached(trials: Sequence[TrialResult], tuning: Tuning) -> list[float | None]:
    """Return the best score up to each trial; empty if no trial has finished."""
    pick = max if QUALITY_METRICS[tuning["metric"]].higher_is_better else min
    best: list[float | None] = []
    for trial in trials:
        known = [s for s in (best[-1] if best else None, trial["score"]) if s is not None]
        best.append(float(pick(known)) if known else None)
    return best if any(score is not None for score in best) else []


def _seconds(trials: Sequence[TrialResult]) -> list[float]:
    """Return the total time at the end of each trial; trials of unknown duration count as 0."""
    spent, total = [], 0.0
    for trial in trials:
        total += trial["seconds"] if fmt.known(trial["seconds"]) else 0.0
        spent.append(total)
    return spent
