"""The recommendation in words: plain sentences, each claim with what carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.compare import format as fmt
from tuneoff.compare.candidates import CLOSE, GUESSING
from tuneoff.compare.pairwise import pair_of
from tuneoff.record import QUALITY_METRICS, Metric


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


def left_out(found: Mapping[str, Any]) -> str:
    """`Left out: full takes …`, of those that a limit keeps out; empty without one."""
    kept_out = [e for e in found["excluded"] if e["reason"] != GUESSING]
    if found["name"] is None or not found["limits"] or not kept_out:
        return ""
    shown = "; ".join(f"{e['name']} {e['reason']}" for e in kept_out[:4])
    more = f"; and {len(kept_out) - 4} more" if len(kept_out) > 4 else ""
    return f"Left out: {shown}{more}."


def nothing(found: Mapping[str, Any]) -> str:
    """That nothing is left to recommend, and why."""
    reasons = "; ".join(f"{e['name']} {e['reason']}" for e in found["excluded"])
    return f"No method can be recommended: {reasons}."
