"""Recommendation by goal: the lowest cost of one kind among the competitive methods."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.comparison.candidates import cost_of, rank, score_of
from tuneoff.comparison.pairwise import pair_of
from tuneoff.results.metrics import Metric
from tuneoff.results.summary import Goal, MethodSummary, Pairwise

GOALS = {
    "fastest training": "train_seconds",
    "lowest memory": "peak_memory_bytes",
    "smallest saved weights": "storage_bytes",
    "lowest latency": "latency_seconds",
}
"""Cost that decides for each goal. Small weights matter if many tasks share one base model."""
MOST_ACCURATE = "most accurate"


def by_goal(
    best: MethodSummary,
    near: Sequence[MethodSummary],
    known: Sequence[MethodSummary],
    pairwise: Pairwise,
    metric: Metric,
) -> list[Goal]:
    """Recommend a method for each goal.

    The lowest cost wins, by whatever distance; ties go to the better score.

    Args:
        best: The candidate with the best score.
        near: The methods that are competitive with `best`, including `best`.
        known: All candidates.
        pairwise: The pairwise comparison.
        metric: The study's metric.

    Returns:
        One entry for each goal, except those whose cost is unknown for all methods: `goal`, `key`
        (the study's metric, or a cost), `name`, its `figure` (the value of `key`), `evidence` (the
        pair of the method and the best; for the best, of it and the runner-up; None if there is no
        other method), and `runner_up` with its own `figure`.
    """
    others = sorted((r for r in known if r is not best), key=lambda row: -rank(row, metric))
    found = [_goal(MOST_ACCURATE, metric.key, [best, *others], best, pairwise, metric)]
    for goal, key in GOALS.items():
        with_cost = [row for row in near if cost_of(row, key) is not None]
        with_cost.sort(key=lambda row: (cost_of(row, key) or 0.0, -rank(row, metric)))
        if with_cost:
            found.append(_goal(goal, key, with_cost, best, pairwise, metric))
    return found


def _goal(
    goal: str,
    key: str,
    ranked: Sequence[MethodSummary],
    best: MethodSummary,
    pairwise: Pairwise,
    metric: Metric,
) -> Goal:
    def figure(row: MethodSummary) -> float | None:
        return score_of(row, metric) if key == metric.key else cost_of(row, key)

    row, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    other = second if row is best else best
    return {
        "goal": goal,
        "key": key,
        "name": row["name"],
        "figure": figure(row),
        "evidence": pair_of(pairwise, row["name"], other["name"]) if other else None,
        "runner_up": {"name": second["name"], "figure": figure(second)} if second else None,
        "run_id": None,
        "command": None,
    }
