"""Who may be recommended, and which of them is the cheapest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.compare import format as fmt
from tuneoff.record import Metric, RunRecord, Scores

Row = Mapping[str, Any]

CLOSE = 0.1
"""Costs this near to the least are the same: times and memory of a repeated run differ as much."""
COSTS = ("train_seconds", "peak_memory_bytes", "storage_bytes")
"""In the order in which they decide."""
LEAST_SKILL = 0.1
"""Share of the way from guessing to knowing every label below which a method is at chance."""

_SHOWN = {
    "train_seconds": ("of training", fmt.seconds),
    "peak_memory_bytes": ("of memory", fmt.size),
    "storage_bytes": ("of storage", fmt.size),
}


def excluded(
    rows: Sequence[Row], records: Sequence[RunRecord], limits: Mapping[str, float]
) -> dict[str, str]:
    """Methods that are no candidates, and why."""
    found: dict[str, str] = {}
    for row in rows:
        tests = [
            record.quality.test
            for record in records
            if record.method.name == row["name"] and record.quality.test
        ]
        broken = [key for key, limit in limits.items() if _exceeds(row, key, limit)]
        if at_chance(tests):
            found[row["name"]] = "is no better than guessing"
        elif broken:
            found[row["name"]] = " and ".join(_over(row, key, limits[key]) for key in broken)
    return found


def _exceeds(row: Row, key: str, limit: float) -> bool:
    cost = cost_of(row, key)
    return cost is None or cost > limit


def _over(row: Row, key: str, limit: float) -> str:
    what, show = _SHOWN[key]
    cost = cost_of(row, key)
    if cost is None:
        return f"has no figure {what} to hold against the limit of {show(limit)}"
    return f"takes {show(cost)} {what}, over the limit of {show(limit)}"


def cheapest(rows: Sequence[Row], metric: Metric) -> Row:
    """The one that trains fastest; among those within 10 % of it the one with least memory, …"""
    left = list(rows)
    for key in COSTS:
        costs = [cost_of(row, key) for row in left]
        known = [cost for cost in costs if cost is not None]
        if known:
            enough = (1 + CLOSE) * min(known)
            left = [
                row
                for row, cost in zip(left, costs, strict=True)
                if cost is not None and cost <= enough
            ]
    return max(left, key=lambda row: rank(row, metric))


def score_of(row: Row, metric: Metric) -> float | None:
    """The mean over the seeds; None where no run has it."""
    value = row["quality"][metric.key]["mean"]
    return None if value is None else float(value)


def rank(row: Row, metric: Metric) -> float:
    """The score, turned so that more is better; there has to be one."""
    score = score_of(row, metric)
    assert score is not None
    return score if metric.higher_is_better else -score


def cost_of(row: Row, key: str) -> float | None:
    """The mean over the seeds; what trains nothing trains in no time."""
    value = row["cost"][key]["mean"]
    if value is None and key == "train_seconds" and row["family"] == "baseline":
        return 0.0
    return None if value is None else float(value)


def at_chance(scores: Sequence[Scores]) -> bool:
    """Whether a method's runs are not shown to know more than someone who guesses.

    By the mean recall over the labels, which is 1 / labels for every rule that does not look at
    the text, be it the majority label. At chance is who stays within a tenth of the way from there
    to 1, since a head that was drawn at random sorts texts too, or whose 95 % bound reaches it.
    """
    recalls, doubts = [], []
    for score in scores:
        present = [label for label in score.per_class.values() if label.support]
        if len(present) < 2:
            return False
        chance = 1 / len(present)
        recalls.append((sum(label.recall for label in present) * chance - chance) / (1 - chance))
        variance = sum(c.recall * (1 - c.recall) / c.support for c in present)
        doubts.append(math.sqrt(variance) * chance / (1 - chance))
    if not recalls:
        return False
    skill = sum(recalls) / len(recalls)
    return skill < LEAST_SKILL or skill <= 1.645 * max(doubts)
