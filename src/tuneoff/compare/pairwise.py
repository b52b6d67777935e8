"""Every pair of a study's methods by the four answers: `pairwise` of `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tuneoff.compare.panel import Floats, Panel, RunPredictions
from tuneoff.compare.statistics import (
    LEVEL,
    Answer,
    Difference,
    answer,
    both_needed,
    difference,
    holm,
    mcnemar,
    rows_needed,
    seeds_needed,
)
from tuneoff.record import QUALITY_METRICS

DRAWS = 2000
"""Of the rows: the standard error of a variance is then 3 % of it."""
ALWAYS = ("accuracy", "macro_f1")
"""Metrics that are tested beside the study's own, each by itself."""
LEAST_ROWS = 10
"""Fewer rows in common say nothing."""
OPPOSITE: dict[str, Answer] = {
    "better": "worse",
    "worse": "better",
    "equivalent": "equivalent",
    "not_resolved": "not_resolved",
}


@dataclass(frozen=True)
class _Pair:
    first: str
    second: str
    runs: tuple[int, int]
    rows: int
    groups: int | None
    mcnemar: dict[str, Any]
    found: dict[str, Difference]
    """By metric."""


@dataclass
class _Resampled:
    """A panel of the runs of several methods, scored and resampled once for all its pairs."""

    panel: Panel
    points: dict[str, Floats]
    draws: dict[str, Floats]
    columns: dict[str, list[int]]
    """Each method's runs."""

    def pair(self, first: str, second: str) -> _Pair:
        one, other = self.columns[first], self.columns[second]
        both = one + other
        found = {
            key: difference(
                self.panel, key, self.points[key][both], self.draws[key][:, both], len(one)
            )
            for key in self.points
        }
        rows = mcnemar(self.panel.correct[both], len(one))
        counts = {"only_first": rows.only_first, "only_second": rows.only_second, "p": rows.p}
        groups = None if self.panel.groups is None else self.panel.clusters
        lengths = (len(one), len(other))
        return _Pair(first, second, lengths, len(self.panel.labels), groups, counts, found)


def pairwise(
    methods: Mapping[str, Sequence[RunPredictions]],
    metric: str,
    *,
    labels: int,
    margin: float = 0.01,
    deterministic: Collection[str] = (),
    data: Mapping[str, str] | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Compare every two of `methods` on the test rows that all runs of both answered.

    `methods` holds each method's runs, one per seed, `labels` is the size of the study's label
    set, and `margin` the difference of `metric` that does not matter. The methods in
    `deterministic` give the same model with every seed, so one run is all there is to know.
    `data` is the fingerprint of each method's data: methods of different data are not compared.

    The result is plain: `pairs`, of which `answer`, `difference`, … say how the `first` stands to
    the `second` by `metric`, and `also` the same by the other metrics; and `skipped`, with the
    `reason`, for what cannot be compared. A pair's `scope` is `methods`, or `models` where a
    method has one seed: then the answer is about the models at hand, and nothing is said about
    another seed. `groups` is None, or how many groups the rows come in, which are then drawn as
    wholes (McNemar's test counts rows all the same).
    """
    wanted = list(dict.fromkeys([metric, *ALWAYS]))
    pairs, skipped = _compared(methods, wanted, labels, draws, data or {})
    tests = {key: _tests([pair.found.get(key) for pair in pairs], key, margin) for key in wanted}
    adjusted = holm([pair.mcnemar["p"] for pair in pairs])
    lines = []
    for place, pair in enumerate(pairs):
        by_metric = {key: tests[key][place] for key in wanted if tests[key][place] is not None}
        own = by_metric.pop(metric, None)
        if own is None:
            reason = f"there are no probabilities to compute {metric} from"
            skipped.append({"first": pair.first, "second": pair.second, "reason": reason})
            continue
        lines.append(
            {
                "first": pair.first,
                "second": pair.second,
                "runs": list(pair.runs),
                "rows": pair.rows,
                "groups": pair.groups,
                "scope": _scope(pair, deterministic),
                **own,
                "mcnemar": {**pair.mcnemar, "p_adjusted": adjusted[place]},
                "also": by_metric,
            }
        )
    return {
        "metric": metric,
        "margin": margin,
        "level": LEVEL,
        "draws": draws,
        "pairs": lines,
        "skipped": skipped,
    }


def _scope(pair: _Pair, deterministic: Collection[str]) -> str:
    """`models` where one run is all there is of a method that differs with every seed."""
    single = any(
        runs == 1 and name not in deterministic
        for name, runs in zip((pair.first, pair.second), pair.runs, strict=True)
    )
    return "models" if single else "methods"


def _compared(
    methods: Mapping[str, Sequence[RunPredictions]],
    wanted: Sequence[str],
    labels: int,
    draws: int,
    data: Mapping[str, str],
) -> tuple[list[_Pair], list[dict[str, str]]]:
    """All pairs; where all runs have the same rows, as they should, these are resampled once."""
    whole: _Resampled | None = None
    known = [name for name in methods if methods[name]]
    if len({run.rows.tobytes() for name in known for run in methods[name]}) == 1:
        # true labels that differ are found pair by pair, which says between whom
        with suppress(ValueError):
            whole = _resampled(methods, known, wanted, labels, draws)
    pairs, skipped = [], []
    for first, second in combinations(methods, 2):
        try:
            if data.get(first) != data.get(second):
                raise ValueError("they were run on different data")
            if missing := [name for name in (first, second) if not methods[name]]:
                raise ValueError(f"no run of {missing[0]} has kept its predictions")
            found = whole or _resampled(methods, [first, second], wanted, labels, draws)
            pairs.append(found.pair(first, second))
        except ValueError as error:
            skipped.append({"first": first, "second": second, "reason": str(error)})
    return pairs, skipped


def _resampled(
    methods: Mapping[str, Sequence[RunPredictions]],
    names: Sequence[str],
    wanted: Sequence[str],
    labels: int,
    draws: int,
) -> _Resampled:
    """Raises `ValueError`, saying why, for methods that cannot be compared."""
    runs: list[RunPredictions] = []
    columns = {}
    for name in names:
        columns[name] = list(range(len(runs), len(runs) + len(methods[name])))
        runs += methods[name]
    panel = Panel.of(runs, labels)
    if len(panel.labels) < LEAST_ROWS:
        raise ValueError(f"they have {len(panel.labels)} test rows in common, too few to compare")
    if panel.clusters < LEAST_ROWS:
        raise ValueError(f"their test rows come in {panel.clusters} groups, too few to compare")
    metrics = panel.metrics(wanted)
    return _Resampled(panel, panel.scores(metrics), panel.bootstrap(metrics, draws), columns)


def _tests(
    found: Sequence[Difference | None], metric: str, margin: float
) -> list[dict[str, Any] | None]:
    """What each pair's difference by one metric says, corrected for the number of pairs."""
    known = [f for f in found if f is not None]
    different = holm([f.p_different for f in known])
    equivalent = holm([f.p_equivalent(margin) for f in known])
    tested = iter(
        _plain(f, metric, margin, p, q, len(known))
        for f, p, q in zip(known, different, equivalent, strict=True)
    )
    return [None if f is None else next(tested) for f in found]


def _plain(
    found: Difference, metric: str, margin: float, different: float, equivalent: float, pairs: int
) -> dict[str, Any]:
    low, high = found.interval
    higher = QUALITY_METRICS[metric].higher_is_better
    said = answer(found, different, equivalent, higher_is_better=higher)
    return {
        "answer": said,
        "difference": found.difference,
        "low": low,
        "high": high,
        "standard_error": found.standard_error,
        "from_seeds": math.sqrt(found.between_seeds),
        "from_rows": math.sqrt(found.shared),
        "p": found.p_different,
        "p_adjusted": different,
        "p_equivalent": found.p_equivalent(margin),
        "p_equivalent_adjusted": equivalent,
        "needed": _needed(found, margin, pairs) if said == "not_resolved" else None,
    }


def _needed(found: Difference, margin: float, pairs: int) -> dict[str, Any]:
    """Seeds per method, or test rows, with which it would be resolved; `both` if neither alone."""
    seeds, rows = seeds_needed(found, margin, pairs), rows_needed(found, margin, pairs)
    alone = seeds is not None or rows is not None
    together = None if alone else both_needed(found, margin, pairs)
    return {"seeds": seeds, "rows": rows, "both": list(together) if together else None}


def pair_of(found: Mapping[str, Any], first: str, second: str) -> dict[str, Any] | None:
    """The pair as seen from `first`; None where the two were not compared."""
    for pair in found["pairs"]:
        if (pair["first"], pair["second"]) == (first, second):
            return dict(pair)
        if (pair["first"], pair["second"]) == (second, first):
            return _turned(pair)
    return None


def _turned(pair: Mapping[str, Any]) -> dict[str, Any]:
    rows = pair["mcnemar"]
    counts = {"only_first": rows["only_second"], "only_second": rows["only_first"]}
    return {
        **pair,
        "first": pair["second"],
        "second": pair["first"],
        "runs": pair["runs"][::-1],
        **_opposite(pair),
        "mcnemar": {**rows, **counts},
        "also": {key: {**other, **_opposite(other)} for key, other in pair["also"].items()},
    }


def _opposite(tested: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "answer": OPPOSITE[tested["answer"]],
        "difference": -tested["difference"],
        "low": -tested["high"],
        "high": -tested["low"],
    }
