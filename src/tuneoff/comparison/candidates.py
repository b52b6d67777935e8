"""Who may be recommended, and which of them is the cheapest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.results.metrics import Metric
from tuneoff.results.record import RunRecord, Scores
from tuneoff.results.scores import at_chance

Row = Mapping[str, Any]

CLOSE = 0.1
"""Costs this near to the least are the same: times and memory of a repeated run differ as much."""
DECIDING = ("train_seconds", "peak_memory_bytes", "storage_bytes")
"""Costs in the order in which they decide."""
COSTS = (*DECIDING, "latency_seconds")
"""All by which methods are weighed."""

_SHOWN = {
    "train_seconds": ("of training", fmt.seconds),
    "peak_memory_bytes": ("of memory", fmt.size),
    "storage_bytes": ("of storage", fmt.size),
    "latency_seconds": ("for a text by itself", fmt.milliseconds),
}


GUESSING = "is no better than guessing"
DEPENDENT = "predicts a text differently depending on the other rows"


def excluded(
    rows: Sequence[Row],
    records: Sequence[RunRecord],
    limits: Mapping[str, float],
    min_recall: Mapping[str, float],
) -> dict[str, str]:
    """Methods that are no candidates, and why.

    `limits` bound the means of costs from above, `min_recall` those of a label's recall on the
    test rows from below. What is not known keeps no limit.
    """
    found: dict[str, str] = {}
    for row in rows:
        tests = scores_of(records, row["name"])
        broken = [_over(row, key, limit) for key, limit in limits.items()]
        broken += [_misses(tests, label, least) for label, least in min_recall.items()]
        if any(
            r.checks and r.checks.depends_on_batch for r in records if r.method.name == row["name"]
        ):
            broken.append(DEPENDENT)
        if at_chance(tests):
            found[row["name"]] = GUESSING
        elif reasons := [text for text in broken if text]:
            found[row["name"]] = " and ".join(reasons)
    return found


def scores_of(records: Sequence[RunRecord], name: str) -> list[Scores]:
    """Those of a method's runs on the test rows."""
    tests = [r.quality.test for r in records if r.method.name == name]
    return [test for test in tests if test]


def _misses(tests: Sequence[Scores], label: str, least: float) -> str:
    """What is wrong with a label's recall; empty where it suffices."""
    of_label = [test.per_class[label] for test in tests if label in test.per_class]
    known = [scores.recall for scores in of_label if scores.support]
    if not known:
        return f"has no recall of {label!r} on the test rows to hold against the limit of {least:g}"
    recall = sum(known) / len(known)
    if recall >= least:
        return ""
    return f"has a recall of {fmt.score(recall)} for {label!r}, under the limit of {least:g}"


def _over(row: Row, key: str, limit: float) -> str:
    """What is wrong with a cost; empty where it keeps the limit."""
    what, show = _SHOWN[key]
    cost = cost_of(row, key)
    if cost is None:
        return f"has no figure {what} to hold against the limit of {show(limit)}"
    if cost <= limit:
        return ""
    return f"takes {show(cost)} {what}, over the limit of {show(limit)}"


def cheapest(rows: Sequence[Row], metric: Metric) -> Row:
    """The one that trains fastest; among those within 10 % of it the one with least memory, …"""
    left = list(rows)
    for key in DECIDING:
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
    value = (row["cost"].get(key) or {}).get("mean")  # a summary of an earlier version has less
    if value is None and key == "train_seconds" and row["family"] == "baseline":
        return 0.0
    return None if value is None else float(value)
