"""Candidates for the recommendation, and the cheapest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff import formatting as fmt
from tuneoff.results.metrics import Metric
from tuneoff.results.record import RunRecord, Scores
from tuneoff.results.scores import at_chance
from tuneoff.results.summary import MethodSummary

CLOSE = 0.1
"""Relative difference below which costs count as equal: repeated runs vary as much in time and
memory."""
DECIDING = ("train_seconds", "peak_memory_bytes", "storage_bytes")
"""Costs that decide the recommendation, in this order."""
COSTS = (*DECIDING, "latency_seconds")
"""All costs by which methods are compared."""

_SHOWN = {
    "train_seconds": ("training time", fmt.seconds),
    "peak_memory_bytes": ("peak memory", fmt.size),
    "storage_bytes": ("storage size", fmt.size),
    "latency_seconds": ("latency per text", fmt.milliseconds),
}


GUESSING = "is no better than guessing"
DEPENDENT = "has predictions that depend on the other rows of the batch"


def excluded(
    rows: Sequence[MethodSummary],
    records: Sequence[RunRecord],
    limits: Mapping[str, float],
    min_recall: Mapping[str, float],
) -> dict[str, str]:
    """Return the methods that cannot be recommended, with the reason.

    A method whose value is unknown does not meet a limit.

    Args:
        rows: The summary's methods.
        records: The finished runs.
        limits: Upper bounds of mean costs.
        min_recall: Lower bounds of a label's mean recall on the test rows.
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
    """Return the test scores of a method's runs."""
    tests = [r.quality.test for r in records if r.method.name == name]
    return [test for test in tests if test]


def _misses(tests: Sequence[Scores], label: str, least: float) -> str:
    """Describe why a label's recall misses its minimum; empty if it does not."""
    of_label = [test.per_class[label] for test in tests if label in test.per_class]
    known = [scores.recall for scores in of_label if scores.support]
    if not known:
        return f"has no measured recall for {label!r} (minimum {least:g})"
    recall = sum(known) / len(known)
    if recall >= least:
        return ""
    return f"has a recall of {fmt.score(recall)} for {label!r}, below the minimum of {least:g}"


def _over(row: MethodSummary, key: str, limit: float) -> str:
    """Describe why a cost exceeds its limit; empty if it does not."""
    what, show = _SHOWN[key]
    cost = cost_of(row, key)
    if cost is None:
        return f"has no measured {what} (limit {show(limit)})"
    if cost <= limit:
        return ""
    return f"has a {what} of {show(cost)}, above the limit of {show(limit)}"


def cheapest(rows: Sequence[MethodSummary], metric: Metric) -> MethodSummary:
    """Return the method that trains fastest; within 10 %, memory decides, then storage."""
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


def score_of(row: MethodSummary, metric: Metric) -> float | None:
    """Return the mean score over the seeds; None if no run has it."""
    return row["quality"][metric.key]["mean"]


def rank(row: MethodSummary, metric: Metric) -> float:
    """Return the score with the sign for which higher is better; the method must have a score."""
    score = score_of(row, metric)
    assert score is not None
    return score if metric.higher_is_better else -score


def cost_of(row: MethodSummary, key: str) -> float | None:
    """Return a mean cost over the seeds; the training time of an untrained baseline is 0."""
    stat = row["cost"].get(key)  # summaries of older versions lack some costs
    value = stat["mean"] if stat else None
    if value is None and key == "train_seconds" and row["family"] == "baseline":
        return 0.0
    return value
