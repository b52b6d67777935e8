"""Checks of the searches for settings: equal numbers of trials, and ranges that are wide enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.audit.evidence import AuditEvidence, joined, names_of, run_ids
from tuneoff.audit.finding import Finding, Kind, check
from tuneoff.results.summary import MethodTuning, NumberRange
from tuneoff.tuning.outcomes import best_trial

EDGE = 0.1
"""Outer fraction of a range that counts as its edge, on the scale on which it is searched."""


def methods_searched(evidence: AuditEvidence, setting: str) -> set[str]:
    """Return the names of the methods with at least two tried values of `setting`."""
    return {
        search["name"]
        for search in _searches(evidence)
        if len({repr(t["settings"].get(setting)) for t in search["trials"]} - {"None"}) > 1
    }


@check(
    "unequal-tuning",
    "The methods were not tuned equally",
    "More trials find better settings. A method with a longer search has an advantage over one"
    " with a shorter search or none.",
)
def unequal_tuning(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find fine-tuned methods with fewer trials than others in the study."""
    fine_tuned = names_of(evidence.trained)
    spent = {s["name"]: len(s["trials"]) for s in _searches(evidence) if s["name"] in fine_tuned}
    if not spent:
        return None
    spent |= {name: 0 for name in fine_tuned if name not in spent}
    most = max(spent.values())
    fewer = [name for name, count in spent.items() if count < most]
    if not fewer:
        return None
    counts = [f"{name} {spent[name]}" for name in fewer]
    return kind.found(
        f"The settings of {joined([n for n in spent if n not in fewer])} were searched with"
        f" {most} trials, those of {joined(fewer)} with fewer ({joined(counts)}).",
        "Search over a setting that all methods have (--tune-over learning_rate). If a search was"
        " interrupted, rerun the same command to resume it.",
        run_ids([r for r in evidence.trained if r.method.name in fewer]),
    )


@check(
    "edge-of-range",
    "The best setting is at the edge of its range",
    "Scores still improved towards the edge of the range. Values beyond it were not tried.",
)
def edge_of_range(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find best trials within the outer `EDGE` of a range, beyond which no value was tried."""
    messages, names, rate = [], [], False
    for search in _searches(evidence):
        for setting, value, end in _at_edges(search):
            words = setting.replace("_", " ")
            messages.append(f"{search['name']} {words} {fmt.setting(value)} ({end} end)")
            names.append(search["name"])
            rate = rate or setting == "learning_rate"
    if not messages:
        return None
    how = "tune.rate_factor" if rate else "tune.ranges"
    return kind.found(
        f"The best trials are at the edge of the searched range: {joined(messages)}.",
        f"Widen the range ({how} in the study file) and rerun the search. Existing trials are"
        " reused.",
        run_ids([r for r in evidence.finished if r.method.name in names]),
        severity="warning",
    )


def _searches(evidence: AuditEvidence) -> Sequence[MethodTuning]:
    return evidence.tuning["methods"] if evidence.tuning else ()


def _at_edges(search: MethodTuning) -> Iterator[tuple[str, Any, str]]:
    """Yield (setting, value, "lower" or "upper") for each setting with its best value at an edge.

    Ends at 0 and 1 are ignored, because such a range cannot be widened.
    """
    best = best_trial(search)
    scored = [t for t in search["trials"] if t["score"] is not None]
    if best is None or len(scored) < 2:
        return
    for setting, own in search["space"].items():
        if "values" in own or own["low"] == own["high"]:
            continue
        value = best["settings"][setting]
        others = [t["settings"][setting] for t in scored if t["settings"][setting] != value]
        share = _share(value, own)
        if share <= EDGE and own["low"] not in (0, 1) and others and value < min(others):
            yield setting, value, "lower"
        if share >= 1 - EDGE and own["high"] != 1 and others and value > max(others):
            yield setting, value, "upper"


def _share(value: float, own: NumberRange) -> float:
    """Return the position of a value in its range, from 0 (lower end) to 1 (upper end)."""
    low, high = own["low"], own["high"]
    if own["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)
