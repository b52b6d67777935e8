"""Which method to take: the cheapest that keeps up with the best."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuneoff.compare import format as fmt
from tuneoff.compare.pairwise import pair_of
from tuneoff.record import QUALITY_METRICS, Metric, RunRecord, Scores, Status

CLOSE = 0.1
"""Costs this near to the least are the same: times and memory of a repeated run differ as much."""
COSTS = ("train_seconds", "peak_memory_bytes", "storage_bytes")
"""In the order in which they decide."""
LEAST_SKILL = 0.1
"""Share of the way from guessing to knowing every label below which a method is at chance."""

Row = Mapping[str, Any]

_SHOWN = {
    "train_seconds": ("of training", fmt.seconds),
    "peak_memory_bytes": ("of memory", fmt.size),
    "storage_bytes": ("of storage", fmt.size),
}


def recommend(
    rows: Sequence[Row],
    pairwise: Mapping[str, Any],
    records: Sequence[RunRecord],
    *,
    limits: Mapping[str, float] | None = None,
    folder: Path | None = None,
) -> dict[str, Any] | None:
    """The cheapest method that keeps up with the best, within `limits`.

    A method *keeps up* that is shown to be equivalent or better, or that is not shown to be worse
    and scored less than the margin below. One that scored further below stays behind even where
    these runs cannot show it: too few seeds or rows are no evidence for a method, and its own score
    is the best guess there is.

    `rows` are the summary's methods, `pairwise` its tests, `folder` that of the study, which the
    command names. *Best* is the highest mean score (the lowest, of a loss) among the methods that
    keep within the limits and are not at chance. *Cheapest* is the one that trains fastest: time
    is paid anew with every run, and measured for every method in the same way, while memory and
    storage either suffice or do not, which is what limits are for. Within 10 % of the least time
    the least memory decides, then the least storage, then the score.

    None where fewer than two methods have a result. With nothing left to recommend, `name` is None
    and `sentences` says why.
    """
    metric = QUALITY_METRICS[pairwise["metric"]]
    measured = [row for row in rows if _score(row, metric) is not None]
    if len(measured) < 2:
        return None
    excluded = _excluded(measured, records, limits or {})
    eligible = [row for row in measured if row["name"] not in excluded]
    best = max(eligible, key=lambda row: _rank(row, metric), default=None)
    compared = {}
    for row in eligible if best else []:
        if best is not None and row is not best:
            pair = pair_of(pairwise, row["name"], best["name"])
            if pair is None:
                excluded[row["name"]] = f"could not be compared with {best['name']}"
            else:
                compared[row["name"]] = pair
    found: dict[str, Any] = {
        "name": None,
        "run_id": None,
        "command": None,
        "best": best["name"] if best else None,
        "evidence": None,
        "runner_up": None,
        "cheaper": None,
        "costs": {},
        "not_worse": [],
        "worse": [name for name, pair in compared.items() if pair["answer"] == "worse"],
        "limits": dict(limits or {}),
        "excluded": [{"name": name, "reason": reason} for name, reason in excluded.items()],
    }
    if best is None:
        return {**found, "sentences": [_nothing(found)]}
    known = [row for row in eligible if row is best or row["name"] in compared]
    fit = [row for row in known if row["name"] not in found["worse"]]
    near = [row for row in fit if row is best or _keeps_up(compared[row["name"]], pairwise)]
    winner = cheapest(near, metric)
    run_id = _run_to_use(winner["name"], records, metric)
    found |= {
        "name": winner["name"],
        "run_id": run_id,
        "command": _command(run_id, folder),
        "evidence": compared.get(winner["name"]),
        "costs": {key: _cost(winner, key) for key in COSTS},
        "not_worse": [row["name"] for row in fit],
        "runner_up": _runner_up(winner, best, near, known, pairwise, metric),
        "cheaper": _cheaper(winner, [row for row in fit if row not in near], compared, metric),
    }
    return {**found, "sentences": sentences(found, pairwise)}


def _keeps_up(pair: Mapping[str, Any], pairwise: Mapping[str, Any]) -> bool:
    """Whether the first of a pair, which is not shown to be worse, keeps up with the second."""
    higher = QUALITY_METRICS[pairwise["metric"]].higher_is_better
    behind = -pair["difference"] if higher else pair["difference"]
    return pair["answer"] != "not_resolved" or bool(behind < pairwise["margin"] + 1e-9)


def cheapest(rows: Sequence[Row], metric: Metric) -> Row:
    """The one that trains fastest; among those within 10 % of it the one with least memory, …"""
    left = list(rows)
    for key in COSTS:
        costs = [_cost(row, key) for row in left]
        known = [cost for cost in costs if cost is not None]
        if known:
            enough = (1 + CLOSE) * min(known)
            left = [
                row
                for row, cost in zip(left, costs, strict=True)
                if cost is not None and cost <= enough
            ]
    return max(left, key=lambda row: _rank(row, metric))


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


# -- in words ------------------------------------------------------------------------------------


def sentences(found: Mapping[str, Any], pairwise: Mapping[str, Any]) -> list[str]:
    """The recommendation in one or two plain sentences, each claim with what carries it."""
    name, best, evidence = found["name"], found["best"], found["evidence"]
    metric = QUALITY_METRICS[pairwise["metric"]]
    if evidence is None:
        lead = f"Take {name}: {_why_best(found)}."
    elif evidence["answer"] == "equivalent":
        margin = fmt.margin(pairwise["margin"], metric.unit)
        lead = f"Take {name}: within {margin} of {best}{_saves(found)}."
    elif evidence["answer"] == "better":
        lead = f"Take {name}: it is shown to be better than {best}."
    else:
        lead = (
            f"Take {name}: it is not shown to be worse than {best} "
            f"({interval(evidence, metric)}){_saves(found)}."
        )
    said = [lead]
    if cheaper := found["cheaper"]:
        said.append(_tempting(found, cheaper, metric))
        evidence = cheaper["evidence"]
    if evidence and evidence["answer"] == "not_resolved" and (needed := would_do(evidence)):
        alone = "" if (evidence["needed"] or {}).get("seeds") else "; more seeds alone would not"
        said.append(f"{needed[0].upper()}{needed[1:]} would settle it{alone}.")
    if standing := _standing(found, pairwise):
        said.append(standing)
    if _about_models(evidence, pairwise):
        said.append("One of the two has one seed: another seed may say otherwise.")
    return said


def _standing(found: Mapping[str, Any], pairwise: Mapping[str, Any]) -> str:
    """How the others stand to the best, those that the first sentence names left out."""
    best = found["best"]
    left_out = {best, found["name"], (found["cheaper"] or {}).get("name")}
    groups: dict[str, list[str]] = {"worse": [], "equivalent": [], "not_resolved": []}
    for name in found["not_worse"] + found["worse"]:
        if name not in left_out and (pair := pair_of(pairwise, name, best)):
            groups.setdefault(pair["answer"], []).append(name)
    titles = {"worse": f"worse than {best}", "equivalent": "equivalent to it"}
    parts = [
        f"{titles.get(said, said.replace('_', ' '))}: {_some(names)}"
        for said, names in groups.items()
        if names
    ]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def interval(pair: Mapping[str, Any], metric: Metric) -> str:
    """`−0.8 points of macro-F1, 95 % interval −2.1 to +0.5`."""
    low, high = (
        fmt.difference(pair[key], metric.unit).partition(" ")[0] for key in ("low", "high")
    )
    points = fmt.difference(pair["difference"], metric.unit)
    return f"{points} of {metric.title}, 95 % interval {low} to {high}"


def would_do(pair: Mapping[str, Any]) -> str:
    """How many seeds or test rows would do; empty where no number is known to."""
    needed = pair["needed"] or {}
    parts = [f"{needed['seeds']} seeds each"] if needed.get("seeds") else []
    if needed.get("rows"):
        parts.append(f"{_rounded(needed['rows'])} test rows")
    if needed.get("both"):
        seeds, rows = needed["both"]
        parts.append(f"{seeds} seeds each and {_rounded(rows)} test rows")
    return f"about {' or '.join(parts)}" if parts else ""


def _rounded(rows: int) -> str:
    """To two digits: it is an estimate."""
    return fmt.count(float(f"{rows:.2g}")) if rows > 99 else str(rows)


def _why_best(found: Mapping[str, Any]) -> str:
    if found["cheaper"]:
        return "it scores highest, which is not settled"
    if any(name != found["name"] for name in found["not_worse"]):
        return "it scores highest, and none that may be as good is cheaper"
    if found["worse"]:
        return (
            "all others are shown to be worse"
            if not found["excluded"]
            else ("all others are shown to be worse or are left out")
        )
    return "the others are left out"


def _saves(found: Mapping[str, Any]) -> str:
    """What the winner costs beside the best."""
    other = found["runner_up"]
    if not other or other["name"] != found["best"]:
        return ""
    share = _share(found["costs"], other["costs"])
    return f", for {share} of its training time" if share else ", and costs less"


def _tempting(found: Mapping[str, Any], cheaper: Mapping[str, Any], metric: Metric) -> str:
    """What speaks for a cheaper method that fell behind, and why that is not enough."""
    share = _share(cheaper["costs"], found["costs"])
    return (
        f"{cheaper['name']}, at {share} of its training time, scored lower "
        f"({interval(cheaper['evidence'], metric)}), but is not shown to be worse."
    )


def _share(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """`37.5 %` of the other's training time; empty where it is no saving, or not known."""
    one, other = mine["train_seconds"], theirs["train_seconds"]
    if one is None or not other or one > (1 - CLOSE) * other:
        return ""
    return fmt.percent(100 * one / other)


def _about_models(evidence: Mapping[str, Any] | None, pairwise: Mapping[str, Any]) -> bool:
    """Whether the evidence is about models where that of other pairs is about methods."""
    scopes = {pair["scope"] for pair in pairwise["pairs"]}
    return bool(evidence and evidence["scope"] == "models" and len(scopes) > 1)


def _nothing(found: Mapping[str, Any]) -> str:
    reasons = "; ".join(f"{e['name']} {e['reason']}" for e in found["excluded"])
    return f"No method can be recommended: {reasons}."


# -- parts ---------------------------------------------------------------------------------------


def _excluded(
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
    cost = _cost(row, key)
    return cost is None or cost > limit


def _over(row: Row, key: str, limit: float) -> str:
    what, show = _SHOWN[key]
    cost = _cost(row, key)
    if cost is None:
        return f"has no figure {what} to hold against the limit of {show(limit)}"
    return f"takes {show(cost)} {what}, over the limit of {show(limit)}"


def _score(row: Row, metric: Metric) -> float | None:
    value = row["quality"][metric.key]["mean"]
    return None if value is None else float(value)


def _rank(row: Row, metric: Metric) -> float:
    score = _score(row, metric)
    assert score is not None
    return score if metric.higher_is_better else -score


def _cost(row: Row, key: str) -> float | None:
    value = row["cost"][key]["mean"]
    if value is None and key == "train_seconds" and row["family"] == "baseline":
        return 0.0  # nothing trains
    return None if value is None else float(value)


def _runner_up(
    winner: Row,
    best: Row,
    fit: Sequence[Row],
    known: Sequence[Row],
    pairwise: Mapping[str, Any],
    metric: Metric,
) -> dict[str, Any] | None:
    """The best method, where it is not the winner; else the cheapest of those that are as good;
    else the one with the next score."""
    rest = [row for row in fit if row is not winner]
    left = [row for row in known if row is not winner]
    if winner is not best:
        other = best
    elif rest:
        other = cheapest(rest, metric)
    elif left:
        other = max(left, key=lambda row: _rank(row, metric))
    else:
        return None
    pair = pair_of(pairwise, winner["name"], other["name"])
    return {
        "name": other["name"],
        "costs": {key: _cost(other, key) for key in COSTS},
        "evidence": pair,
    }


def _cheaper(
    winner: Row, behind: Sequence[Row], compared: Mapping[str, Any], metric: Metric
) -> dict[str, Any] | None:
    """The best of the methods that fell behind, are not shown to, and train faster."""
    paid = _cost(winner, "train_seconds")
    faster = [
        row
        for row in behind
        if paid is not None
        and (cost := _cost(row, "train_seconds")) is not None
        and cost < (1 - CLOSE) * paid
    ]
    if not faster:
        return None
    row = max(faster, key=lambda row: _rank(row, metric))
    return {
        "name": row["name"],
        "costs": {key: _cost(row, key) for key in COSTS},
        "evidence": compared[row["name"]],
    }


def _run_to_use(name: str, records: Sequence[RunRecord], metric: Metric) -> str | None:
    """Of the method's runs the one with the best validation score: the test picks no model."""
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
