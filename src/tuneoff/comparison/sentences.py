"""The recommendation as text: the method, its confidence, its cost, and what is ruled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff import formatting as fmt
from tuneoff.comparison.candidates import CLOSE, GUESSING
from tuneoff.results.metrics import QUALITY_METRICS, Metric
from tuneoff.results.summary import Action, Needed, Pair, Pairwise, Recommendation

LIKELY_SEEDS = 20
"""Largest realistic number of seeds per method."""
LIKELY_ROWS = 20
"""Largest realistic number of test rows, as a multiple of the present number."""
_UNKNOWN: Needed = {"seeds": None, "of": "both", "rows": None, "both": None}


def sentences(found: Recommendation, pairwise: Pairwise) -> list[str]:
    """Return the recommendation as sentences; the first names the method and the reason."""
    metric = QUALITY_METRICS[pairwise["metric"]]
    said = [
        _take(found, pairwise, metric),
        _how_sure(found, pairwise, metric),
        _price(found),
        _ruled_out(found),
        _tempting(found, metric),
        _action(found),
        _about_models(found, pairwise),
    ]
    return [sentence for sentence in said if sentence]


def _take(found: Recommendation, pairwise: Pairwise, metric: Metric) -> str:
    name, best, evidence = found["name"], found["best"], found["evidence"]
    if evidence is None:
        direction = "highest" if metric.higher_is_better else "lowest"
        score = f"Take {name}: it has the {direction} {metric.title}, {fmt.score(found['score'])}"
        if found["cheaper"]:
            return f"{score}, but a cheaper method may be as good."
        rest = [other for other in found["not_worse"] if other != name]
        return f"{score}, and every cheaper method is ruled out." if rest else f"{score}."
    if evidence["answer"] == "equivalent":
        margin = fmt.margin(pairwise["margin"], metric.unit)
        return f"Take {name}: it is equivalent to {best} (within {margin}){_saves(found)}."
    if evidence["answer"] == "better":
        return f"Take {name}: it is better than {best} ({interval(evidence, metric)})."
    return (
        f"Take {name}: no significant difference from {best} "
        f"({interval(evidence, metric)}){_saves(found)}."
    )


def _saves(found: Recommendation) -> str:
    """Describe the recommended method's cost relative to the best method."""
    other = found["runner_up"]
    if not other or other["name"] != found["best"]:
        return ""
    part = _part_of_time(found["costs"], other["costs"])
    return f", at {part} of its training time" if part else ", and it costs less"


def _part_of_time(mine: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> str:
    """Return `37.5 %` (of the other's training time); empty if unknown or not a saving."""
    one, other = mine["train_seconds"], theirs["train_seconds"]
    if one is None or not other or one > (1 - CLOSE) * other:
        return ""
    return fmt.percent(100 * one / other)


def _how_sure(found: Recommendation, pairwise: Pairwise, metric: Metric) -> str:
    bounds = found["bounds"].get(found["name"] or "")
    if bounds is None or len(found["bounds"]) < 2:
        return ""
    sure = "With 95 % confidence"
    if all(pair["scope"] == "models" for pair in pairwise["pairs"]):
        sure += " for these models (one seed)"
    if bounds["behind"] <= 0:
        return f"{sure}, no other candidate is better."
    behind = fmt.difference(bounds["behind"], metric.unit).lstrip("+")
    return (
        f"{sure}, it is at most {behind} of {metric.title} "
        f"{'below' if metric.higher_is_better else 'above'} the method that is truly best."
    )


def _tempting(found: Recommendation, metric: Metric) -> str:
    """Describe a cheaper method that scored lower without being ruled out."""
    cheaper = found["cheaper"]
    if not cheaper:
        return ""
    part = _part_of_time(cheaper["costs"], found["costs"])
    return (
        f"Cheaper: {cheaper['name']}, at {part} of the training time of {found['name']}, scored "
        f"lower, but the difference is not resolved ({interval(cheaper['evidence'], metric)})."
    )


def _price(found: Recommendation) -> str:
    costs = found["costs"]
    parts = [
        f"{show(costs[key])} {of}"
        for key, show, of in (
            ("train_seconds", fmt.seconds, "of training per seed"),
            ("peak_memory_bytes", fmt.size, "of memory"),
            ("storage_bytes", fmt.size, "of storage"),
        )
        if costs.get(key)
    ]
    return f"{found['name']} costs {joined(parts)}." if parts else ""


def _ruled_out(found: Recommendation) -> str:
    guessing = [e["name"] for e in found["excluded"] if e["reason"] == GUESSING]
    open_still = [name for name in found["not_worse"] if name not in (found["name"], found["best"])]
    cheaper = found["cheaper"]["name"] if found["cheaper"] else None
    parts = [
        (f"Ruled out as the best: {_some(found['ruled_out'])}", found["ruled_out"]),
        (f"no better than guessing: {_some(guessing)}", guessing),
        (f"not ruled out: {_some(open_still)}", [n for n in open_still if n != cheaper]),
    ]
    text = "; ".join(part for part, names in parts if names)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def joined(parts: Sequence[str]) -> str:
    """Join as `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def open_question(found: Recommendation) -> Pair | None:
    """Return the unresolved pair on which the recommendation depends, or None."""
    pair = found["cheaper"]["evidence"] if found["cheaper"] else found["evidence"]
    return pair if pair and pair["answer"] == "not_resolved" else None


def action(pair: Pair) -> Action:
    """Return the action that would probably resolve a pair: more seeds, test rows, or both.

    More seeds only cost runs, while test rows have to be labelled, so seeds are preferred if they
    suffice. `kind` is `none` if no realistic number suffices.
    """
    needed = pair["needed"] or _UNKNOWN
    seeds, rows, both = needed["seeds"], needed["rows"], needed["both"]
    most_rows = LIKELY_ROWS * pair["rows"]
    of = {"first": [pair["first"]], "second": [pair["second"]]}.get(
        needed["of"], [pair["first"], pair["second"]]
    )
    if seeds and seeds <= LIKELY_SEEDS:
        return {"kind": "seeds", "seeds": seeds, "rows": None, "of": of}
    if rows and rows <= most_rows:
        return {"kind": "rows", "seeds": None, "rows": rows, "of": of}
    if both and both[0] <= LIKELY_SEEDS and both[1] <= most_rows:
        return {"kind": "both", "seeds": both[0], "rows": both[1], "of": of}
    return {"kind": "none", "seeds": None, "rows": None, "of": of}


def _action(found: Recommendation) -> str:
    pair = open_question(found)
    if pair is None:
        return ""
    doing = action(pair)
    what = f"the difference between {pair['first']} and {pair['second']}"
    if doing["kind"] == "none":
        far = would_resolve(pair)
        text = f" It would need {far}." if far else ""
        return f"No feasible number of seeds or test rows would resolve {what}.{text}"
    runs = dict(zip((pair["first"], pair["second"]), pair["runs"], strict=True))
    now = " and ".join(dict.fromkeys(str(runs[name]) for name in doing["of"]))
    seeds = f"about {doing['seeds']} seeds of {joined(doing['of'])} (now {now})"
    rows = f"about {rounded(doing['rows'] or 0)} test rows (now {fmt.count(pair['rows'])})"
    parts = {
        "seeds": seeds,
        "rows": f"{rows}; more seeds alone would not help",
        "both": f"{seeds} and {rows}",
    }
    return f"Resolving {what} would need {parts[doing['kind']]}."


def _about_models(found: Recommendation, pairwise: Pairwise) -> str:
    """Note that this pair's evidence is about two models, unlike that of other pairs."""
    pair = (found["cheaper"] or found)["evidence"]
    scopes = {other["scope"] for other in pairwise["pairs"]}
    if not pair or pair["scope"] != "models" or len(scopes) < 2:
        return ""
    return "One of the two has one seed: the variance between its seeds is unknown."


def interval(pair: Pair, metric: Metric) -> str:
    """Format a difference as `−0.8 points of macro-F1, 95 % interval −2.1 to +0.5`."""
    low, high = (
        fmt.difference(pair[key], metric.unit).partition(" ")[0] for key in ("low", "high")
    )
    points = fmt.difference(pair["difference"], metric.unit)
    return f"{points} of {metric.title}, 95 % interval {low} to {high}"


def would_resolve(pair: Pair) -> str:
    """Describe the seeds or test rows that would resolve a pair; empty if no number is known."""
    needed = pair["needed"] or _UNKNOWN
    whose = {"first": f" of {pair['first']}", "second": f" of {pair['second']}"}
    each = whose.get(needed["of"], " each")
    parts = [f"{needed['seeds']} seeds{each}"] if needed["seeds"] else []
    if needed["rows"]:
        parts.append(f"{rounded(needed['rows'])} test rows")
    if needed["both"]:
        seeds, rows = needed["both"]
        parts.append(f"{seeds} seeds each and {rounded(rows)} test rows")
    return f"about {' or '.join(parts)}" if parts else ""


def rounded(rows: int) -> str:
    """Round an estimated number of rows to two digits."""
    return fmt.count(float(f"{rows:.2g}")) if rows > 99 else str(rows)


def left_out(found: Recommendation) -> str:
    """List the methods outside the limits, as `Excluded: full has …`; empty without limits."""
    kept_out = [e for e in found["excluded"] if e["reason"] != GUESSING]
    if found["name"] is None or not found["limits"] or not kept_out:
        return ""
    shown = "; ".join(f"{e['name']} {e['reason']}" for e in kept_out[:4])
    more = f"; and {len(kept_out) - 4} more" if len(kept_out) > 4 else ""
    return f"Excluded: {shown}{more}."


def nothing(found: Recommendation) -> str:
    """Say that no method can be recommended, and why."""
    reasons = "; ".join(f"{e['name']} {e['reason']}" for e in found["excluded"])
    return f"No method can be recommended: {reasons}."
