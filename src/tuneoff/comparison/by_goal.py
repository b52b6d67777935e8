"""What to take for which use: the best by one cost among the methods that keep up with the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.comparison.candidates import Row, cost_of, rank, score_of
from tuneoff.comparison.pairwise import pair_of
from tuneoff.results.metrics import Metric

USES = {
    "fastest to train": "train_seconds",
    "least memory": "peak_memory_bytes",
    "many tasks on one base": "storage_bytes",
    "fastest to answer": "latency_seconds",
}
"""Each use, and the cost that decides for it: many tasks keep one base, and one adapter each."""
MOST_ACCURATE = "most accurate"


def uses(
    best: Row,
    near: Sequence[Row],
    known: Sequence[Row],
    pairwise: Mapping[str, Any],
    metric: Metric,
) -> list[dict[str, Any]]:
    """One entry for each use: `name`, the deciding `figure`, and the `runner_up` with its own.

    `near` are the methods that keep up with `best`, itself among them, `known` all candidates.
    The `key` of a figure is the study's metric or a cost. `evidence` is the pair of the method and
    the best (of the best: of it and the runner-up), None where it is alone. The least figure
    decides, however little it is ahead, then the score. A use whose cost is not known of any
    method is left out.
    """
    others = sorted((r for r in known if r is not best), key=lambda row: -rank(row, metric))
    found = [_use(MOST_ACCURATE, metric.key, [best, *others], best, pairwise, metric)]
    for use, key in USES.items():
        with_cost = [row for row in near if cost_of(row, key) is not None]
        with_cost.sort(key=lambda row: (cost_of(row, key) or 0.0, -rank(row, metric)))
        if with_cost:
            found.append(_use(use, key, with_cost, best, pairwise, metric))
    return found


def _use(
    use: str,
    key: str,
    ranked: Sequence[Row],
    best: Row,
    pairwise: Mapping[str, Any],
    metric: Metric,
) -> dict[str, Any]:
    def figure(row: Row) -> float | None:
        return score_of(row, metric) if key == metric.key else cost_of(row, key)

    row, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    other = second if row is best else best
    return {
        "use": use,
        "key": key,
        "name": row["name"],
        "figure": figure(row),
        "evidence": pair_of(pairwise, row["name"], other["name"]) if other else None,
        "runner_up": {"name": second["name"], "figure": figure(second)} if second else None,
    }
