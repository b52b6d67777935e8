"""Adaptive number of seeds: which methods need another seed, and how many runs this saved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tuneoff import formatting as fmt
from tuneoff.config import StudySpec
from tuneoff.external_predictions import FAMILY
from tuneoff.results.summary import MethodSummary, Pair, Recommendation, SeedUse, Stopped

LEAST_CHANCE = 0.12
"""Least probability of resolving a comparison for which further seeds are run. With this value,
simulated studies are resolved as often as with five seeds per method, with the fewest runs."""


def worth_another_seed(
    best: str, compared: Mapping[str, Pair], ruled_out: Collection[str]
) -> list[str]:
    """Return the methods that need another seed; empty if the recommendation is settled.

    These are the best method so far and those that are neither ruled out nor equivalent to it,
    unless even the last seed is unlikely to resolve them.

    Args:
        best: The candidate with the best mean score.
        compared: The other candidates' pairs with `best`, by name. `chance` is the probability
            that the last seed resolves a pair; it is missing in studies with a fixed number of
            seeds. With one finished seed (`scope` is `models`) it is unknown, and another seed is
            run.
        ruled_out: The methods that are ruled out as the best.
    """
    open_still: Sequence[str] = [
        name
        for name, pair in compared.items()
        if name not in ruled_out
        and pair["answer"] == "not_resolved"
        and "chance" in pair
        and (pair["scope"] == "models" or pair["chance"] >= LEAST_CHANCE)
    ]
    return [best, *open_still] if open_still else []


def seeds_used(
    study: StudySpec, rows: Sequence[MethodSummary], recommendation: Recommendation | None
) -> SeedUse:
    """Return how many of the possible runs a study with `more_seeds` used, and why it stopped.

    Args:
        study: Specification of the study.
        rows: The summary's methods. External predictions do not count as runs.
        recommendation: The summary's recommendation.

    Returns:
        Seeds and runs used, and `stopped`, which is `settled`; `limit` (after the last seed);
        `unlikely` (further seeds were unlikely to settle it); `time`; `unfinished` (runs are
        missing); or `nothing` (there was nothing to compare).
    """
    first, last = len(study.seeds), len(study.seeds) + len(study.more_seeds)
    counts = {row["name"]: len(set(row["seeds"])) for row in rows if row["family"] != FAMILY}
    fixed = {row["name"] for row in rows if row["family"] == "classical"}
    undecided = recommendation["undecided"] if recommendation else []
    pending = [name for name in undecided if counts.get(name, last) < last and name not in fixed]
    stopped: Stopped
    if not recommendation or recommendation["name"] is None:
        stopped = "nothing"
    elif pending:
        stopped = "time" if study.max_study_seconds else "unfinished"
    elif undecided:
        stopped = "limit"
    else:
        stopped = "unlikely" if recommendation["open"] else "settled"
    return {
        "first": first,
        "last": last,
        "of": {name: count for name, count in counts.items() if name not in fixed},
        "runs": sum(counts.values()),
        "most": sum(1 if name in fixed else last for name in counts),
        "stopped": stopped,
    }


_STOPPED: dict[Stopped, str] = {
    "settled": "stopped because the recommendation is settled",
    "limit": "the recommendation is not settled after the last seed",
    "unlikely": "stopped because further seeds were unlikely to settle the rest",
    "time": "stopped at the time limit",
    "unfinished": "the study has not finished",
    "nothing": "no two methods could be compared",
}


def seeds_line(used: SeedUse) -> str:
    """Format as `Seeds: 5 for full and lora, 2 for the others. 18 of at most 40 runs; …`."""
    by_count: dict[int, list[str]] = {}
    for name, count in used["of"].items():
        by_count.setdefault(count, []).append(name)
    counts = sorted(by_count, reverse=True)
    parts = [f"{count} for {_joined(by_count[count])}" for count in counts]
    if len(counts) > 1 and len(by_count[counts[-1]]) > 1:
        parts[-1] = f"{counts[-1]} for the others"
    if len(counts) == 1:
        parts = [f"{counts[0]} for each method"]
    runs = f"{used['runs']} of at most {used['most']} runs"
    return f"Seeds: {', '.join(parts)}. {runs}; {_STOPPED[used['stopped']]}"


def _joined(names: Sequence[str]) -> str:
    shown = [fmt.one_line(name) for name in names]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
