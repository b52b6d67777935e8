"""Recommendation: the cheapest method that is competitive with the best."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneoff.comparison.by_goal import by_goal
from tuneoff.comparison.candidates import (
    CLOSE,
    COSTS,
    cheapest,
    cost_of,
    excluded,
    rank,
    score_of,
)
from tuneoff.comparison.next_seeds import worth_another_seed
from tuneoff.comparison.pairwise import Comparison, pair_of
from tuneoff.comparison.sentences import action, nothing, open_question, sentences
from tuneoff.comparison.simultaneous import Bounds
from tuneoff.results.metrics import QUALITY_METRICS, Metric
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.summary import (
    CheaperMethod,
    MethodSummary,
    Pair,
    Pairwise,
    Recommendation,
    RunnerUp,
)


def recommend(
    rows: Sequence[MethodSummary],
    comparison: Comparison,
    records: Sequence[RunRecord],
    *,
    limits: Mapping[str, float] | None = None,
    min_recall: Mapping[str, float] | None = None,
    folder: Path | None = None,
) -> Recommendation | None:
    """Recommend the cheapest method that is competitive with the best, within the limits.

    The *candidates* are the methods within the limits that are better than guessing. The *best* is
    the candidate with the highest mean score (the lowest for a loss). A candidate is *ruled out* if
    another one is shown to be better, or at least as good by multiple comparisons with the best.

    A candidate is *competitive* if it is shown to be equivalent to the best or better, or if it is
    not ruled out and its score is less than the margin below the best. One that scored lower is not
    competitive even if these runs cannot rule it out: too few seeds or rows are no evidence for a
    method, and its own score is the best estimate available.

    The *cheapest* method is the one that trains fastest. Every run costs this time, and it is
    measured in the same way for all methods, while memory and storage either suffice or do not,
    which is the purpose of limits. Within 10 % of the shortest time, the lowest memory decides,
    then the smallest storage, then the score.

    Args:
        rows: The summary's methods.
        comparison: The pairwise comparison, with its bounds against the best.
        records: The finished runs.
        limits: Upper bounds of mean costs.
        min_recall: Lower bounds of a label's mean recall on the test rows.
        folder: Folder of the study, for the command to predict.

    Returns:
        None if fewer than two methods have a result. If no candidate is left, `name` is None and
        `sentences` says why.
    """
    pairwise = comparison.plain
    metric = QUALITY_METRICS[pairwise["metric"]]
    measured = [row for row in rows if score_of(row, metric) is not None]
    if len(measured) < 2:
        return None
    left_out = excluded(measured, records, limits or {}, min_recall or {})
    eligible = [row for row in measured if row["name"] not in left_out]
    best = max(eligible, key=lambda row: rank(row, metric), default=None)
    compared, apart = _with_best(best, eligible, pairwise)
    left_out |= apart
    found: Recommendation = {
        "name": None,
        "run_id": None,
        "command": None,
        "best": best["name"] if best else None,
        "evidence": None,
        "runner_up": None,
        "cheaper": None,
        "score": None,
        "costs": {},
        "bounds": {},
        "not_worse": [],
        "ruled_out": [],
        "open": [],
        "undecided": [],
        "action": None,
        "by_goal": [],
        "worse": [name for name, pair in compared.items() if pair["answer"] == "worse"],
        "limits": {**(limits or {}), **({"min_recall": dict(min_recall)} if min_recall else {})},
        "excluded": [{"name": name, "reason": reason} for name, reason in left_out.items()],
        "sentences": [],
    }
    if best is None:
        found["sentences"] = [nothing(found)]
        return found
    known = [row for row in eligible if row["name"] not in apart]
    bounds = comparison.with_best([row["name"] for row in known])
    found["bounds"] = {name: {"behind": b.behind, "ahead": b.ahead} for name, b in bounds.items()}
    found["ruled_out"] = not_the_best(compared, bounds)
    found["undecided"] = worth_another_seed(best["name"], compared, found["ruled_out"])
    _pick(found, best, known, compared, pairwise)
    found["open"] = [
        name
        for name, pair in compared.items()
        if name not in found["ruled_out"] and pair["answer"] == "not_resolved"
    ]
    pair = open_question(found)
    found["action"] = action(pair) if pair else None
    found["run_id"] = _run_to_use(found["name"], records, metric)
    found["command"] = _command(found["run_id"], folder)
    for goal in found["by_goal"]:
        goal["run_id"] = _run_to_use(goal["name"], records, metric)
        goal["command"] = _command(goal["run_id"], folder)
    found["sentences"] = sentences(found, pairwise)
    return found


def not_the_best(compared: Mapping[str, Pair], bounds: Mapping[str, Bounds]) -> list[str]:
    """Return the methods that are shown to be worse than the best or not to be the only best.

    Args:
        compared: Pairs with the method that has the best mean score, by name.
        bounds: Simultaneous bounds of all candidates.
    """
    return [
        name
        for name, pair in compared.items()
        if pair["answer"] == "worse" or (bounds[name].ruled_out and pair["answer"] != "equivalent")
    ]


def _with_best(
    best: MethodSummary | None, rows: Sequence[MethodSummary], pairwise: Pairwise
) -> tuple[dict[str, Pair], dict[str, str]]:
    """Return each other method's pair with the best, and why some have none, both by name."""
    compared: dict[str, Pair] = {}
    apart: dict[str, str] = {}
    for row in rows:
        if best is None or row is best:
            continue
        pair = pair_of(pairwise, row["name"], best["name"])
        if pair is None:
            apart[row["name"]] = f"could not be compared with {best['name']}"
        else:
            compared[row["name"]] = pair
    return compared, apart


def _pick(
    found: Recommendation,
    best: MethodSummary,
    known: Sequence[MethodSummary],
    compared: Mapping[str, Pair],
    pairwise: Pairwise,
) -> None:
    """Add the recommended one of `known`: the best, and all that are `compared` with it."""
    metric = QUALITY_METRICS[pairwise["metric"]]
    fit = [row for row in known if row["name"] not in found["ruled_out"]]
    near = [row for row in fit if row is best or _is_competitive(compared[row["name"]], pairwise)]
    winner = cheapest(near, metric)
    found |= {
        "name": winner["name"],
        "score": score_of(winner, metric),
        "evidence": compared.get(winner["name"]),
        "costs": {key: cost_of(winner, key) for key in COSTS},
        "not_worse": [row["name"] for row in fit],
        "runner_up": _runner_up(winner, best, near, known, pairwise, metric),
        "cheaper": _cheaper(winner, [row for row in fit if row not in near], compared, metric),
        "by_goal": by_goal(best, near, known, pairwise, metric),
    }


def _is_competitive(pair: Pair, pairwise: Pairwise) -> bool:
    """Return whether the first method of a pair is competitive with the second, the best.

    The first must not be ruled out.
    """
    higher = QUALITY_METRICS[pairwise["metric"]].higher_is_better
    behind = -pair["difference"] if higher else pair["difference"]
    return pair["answer"] in ("equivalent", "better") or behind < pairwise["margin"] + 1e-9


def _runner_up(
    winner: MethodSummary,
    best: MethodSummary,
    fit: Sequence[MethodSummary],
    known: Sequence[MethodSummary],
    pairwise: Pairwise,
    metric: Metric,
) -> RunnerUp | None:
    """Return the alternative to the winner.

    This is the best method if it is not the winner, otherwise the cheapest of the competitive
    ones, otherwise the one with the next score.
    """
    rest = [row for row in fit if row is not winner]
    left = [row for row in known if row is not winner]
    if winner is not best:
        other = best
    elif rest:
        other = cheapest(rest, metric)
    elif left:
        other = max(left, key=lambda row: rank(row, metric))
    else:
        return None
    pair = pair_of(pairwise, winner["name"], other["name"])
    return {
        "name": other["name"],
        "costs": {key: cost_of(other, key) for key in COSTS},
        "evidence": pair,
    }


def _cheaper(
    winner: MethodSummary,
    behind: Sequence[MethodSummary],
    compared: Mapping[str, Pair],
    metric: Metric,
) -> CheaperMethod | None:
    """Return the best faster method that scored lower without being ruled out; None without one."""
    paid = cost_of(winner, "train_seconds")
    faster = [
        row
        for row in behind
        if paid is not None
        and (cost := cost_of(row, "train_seconds")) is not None
        and cost < (1 - CLOSE) * paid
    ]
    if not faster:
        return None
    row = max(faster, key=lambda row: rank(row, metric))
    return {
        "name": row["name"],
        "costs": {key: cost_of(row, key) for key in COSTS},
        "evidence": compared[row["name"]],
    }


def command_for(
    name: str, records: Sequence[RunRecord], metric: Metric, folder: Path | None
) -> str | None:
    """Return the command to predict with a method's best run; None if no run has finished."""
    return _command(_run_to_use(name, records, metric), folder)


def _run_to_use(name: str | None, records: Sequence[RunRecord], metric: Metric) -> str | None:
    """Return the method's run with the best validation score; test scores select no model."""
    sign = 1 if metric.higher_is_better else -1
    scored = [
        (sign * getattr(record.quality.validation, metric.key), record.run_id)
        for record in sorted(records, key=lambda record: -record.seed)
        if record.method.name == name
        and record.status is Status.FINISHED
        and record.quality.validation is not None
    ]
    return max(scored, key=lambda pair: pair[0], default=(0.0, None))[1]


def _command(run_id: str | None, folder: Path | None) -> str | None:
    if run_id is None:
        return None
    run = Path("runs") / run_id if folder is None else folder / "runs" / run_id
    return f"tuneoff predict {shlex.quote(str(run))} new.csv --out predictions.csv"
