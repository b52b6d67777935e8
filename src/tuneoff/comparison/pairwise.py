"""Every pair of a study's methods by the four answers: `pairwise` of `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tuneoff.comparison.bootstrap import Panel, RunPredictions
from tuneoff.comparison.looks import Looks
from tuneoff.comparison.mcnemar import mcnemar
from tuneoff.comparison.resolution import Threshold, chance, needed
from tuneoff.comparison.simultaneous import (
    Bounds,
    adjusted_different,
    adjusted_equivalent,
    holm,
    thresholds,
    with_best,
)
from tuneoff.comparison.statistics import (
    LEVEL,
    Answer,
    Difference,
    MethodMeans,
    answer,
    method_means,
)
from tuneoff.results.metrics import QUALITY_METRICS

DRAWS = 2000
"""Draws of the rows: the standard error of a variance is then 3 % of it."""
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
    """The runs of several methods, scored and resampled once for all their pairs."""

    panel: Panel
    means: dict[str, MethodMeans]
    """By metric."""
    columns: dict[str, list[int]]
    """Each method's runs."""

    def pair(self, first: str, second: str) -> _Pair:
        one, other = self.columns[first], self.columns[second]
        places = list(self.columns)
        i, j = places.index(first), places.index(second)
        groups = self.panel.groups
        rows = mcnemar(self.panel.correct[one + other], len(one), groups)
        return _Pair(
            first,
            second,
            (len(one), len(other)),
            len(self.panel.labels),
            None if groups is None else self.panel.clusters,
            {"only_first": rows.only_first, "only_second": rows.only_second, "p": rows.p},
            {metric: means.difference(i, j) for metric, means in self.means.items()},
        )


@dataclass(frozen=True)
class Comparison:
    """A study's methods, compared."""

    plain: dict[str, Any]
    """What `pairwise` returns."""
    names: list[str]
    """The methods in `means`."""
    means: dict[str, MethodMeans]
    """By metric; empty where the methods were tested on different rows."""
    differences: dict[tuple[str, str], Difference]
    """Of the study's metric."""

    @property
    def joint(self) -> bool:
        """Whether the errors of all pairs come from the same draws."""
        return bool(self.means)

    def half_width(self, name: str, metric: str) -> float | None:
        """Half of the 95 % interval of a mean over other seeds; None where it is not known.

        The methods' variances are moderated, so that two seeds suffice.
        """
        if metric not in self.means or name not in self.names:
            return None
        place, means = self.names.index(name), self.means[metric]
        return float(means.half_widths[place]) if means.sides[place].seeds > 1 else None

    def with_best(self, names: Sequence[str]) -> dict[str, Bounds]:
        """Compare each of `names` with the best of the others; every two have been compared."""
        higher = QUALITY_METRICS[self.plain["metric"]].higher_is_better
        return with_best(self.differences, names, higher_is_better=higher, joint=self.joint)


def pairwise(
    methods: Mapping[str, Sequence[RunPredictions]], metric: str, **settings: Any
) -> dict[str, Any]:
    """Return the `plain` result of `compare_methods`."""
    return compare_methods(methods, metric, **settings).plain


def compare_methods(
    methods: Mapping[str, Sequence[RunPredictions]],
    metric: str,
    *,
    labels: int,
    margin: float = 0.01,
    deterministic: Collection[str] = (),
    guessing: Collection[str] = (),
    data: Mapping[str, str] | None = None,
    also: Sequence[str] = ALWAYS,
    draws: int = DRAWS,
    looks: Looks | None = None,
) -> Comparison:
    """Compare every two of `methods` on the test rows that all runs of both answered.

    The result's `plain` form has `pairs`, of which `answer`, `difference`, … say how the `first`
    stands to the `second` by `metric`, and `also` the same by the other metrics; and `skipped`,
    with the `reason`, for what cannot be compared. A pair's `scope` is `methods`, or `models` where
    a method has one seed: then the answer is about the models at hand, and nothing is said about
    another seed. `groups` is None, or the number of groups that the rows come in, which are then
    drawn as wholes.

    Args:
        methods: Each method's runs, one per seed.
        metric: Key of the study's metric.
        labels: Size of the study's label set.
        margin: Difference of `metric` that does not matter.
        deterministic: Methods that give the same model with every seed, so that one run is all
            there is to know.
        guessing: Methods that are no better than guessing. Their pairs are a family of tests of
            their own, so that they do not cost the other pairs their power.
        data: Fingerprint of each method's data; methods of different data are not compared.
        also: Metrics that are tested in addition, each by itself.
        draws: Bootstrap draws of the test rows.
        looks: Of a study that adds seeds until its question is answered: the intervals hold at all
            of its looks together.
    """
    wanted = list(dict.fromkeys([metric, *also]))
    pairs, skipped, whole = _compared(methods, wanted, labels, draws, data or {}, looks)
    joint = whole is not None
    families = [bool({pair.first, pair.second} & set(guessing)) for pair in pairs]
    tests = {
        key: _tests(
            [pair.found.get(key) for pair in pairs], families, key, margin, joint=joint, looks=looks
        )
        for key in wanted
    }
    adjusted = holm([pair.mcnemar["p"] for pair in pairs])
    lines, differences = [], {}
    for place, pair in enumerate(pairs):
        by_metric = {key: found for key in wanted if (found := tests[key][place]) is not None}
        own = by_metric.pop(metric, None)
        if own is None:
            reason = f"there are no probabilities to compute {metric} from"
            skipped.append({"first": pair.first, "second": pair.second, "reason": reason})
            continue
        differences[(pair.first, pair.second)] = pair.found[metric]
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
    plain = {
        "metric": metric,
        "margin": margin,
        "level": LEVEL,
        "draws": draws,
        "looks": None if looks is None else {"first": looks.first, "last": looks.last},
        "guessing": [name for name in methods if name in set(guessing)],
        "pairs": lines,
        "skipped": skipped,
    }
    names = list(whole.columns) if whole else []
    return Comparison(plain, names, whole.means if whole else {}, differences)


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
    looks: Looks | None,
) -> tuple[list[_Pair], list[dict[str, str]], _Resampled | None]:
    """All pairs, what was skipped, and the panel of all methods.

    Where all runs have the same rows, as they should, these are resampled once. Else each pair is
    resampled by itself, and there is no panel of all.
    """
    whole: _Resampled | None = None
    known = [name for name in methods if methods[name]]
    if len({run.rows.tobytes() for name in known for run in methods[name]}) == 1:
        # true labels that differ are found pair by pair, which says between whom
        with suppress(ValueError):
            whole = _resampled(methods, known, wanted, labels, draws, looks)
    pairs, skipped = [], []
    for first, second in combinations(methods, 2):
        try:
            if data.get(first) != data.get(second):
                raise ValueError("they were run on different data")
            if missing := [name for name in (first, second) if not methods[name]]:
                raise ValueError(f"no run of {missing[0]} has kept its predictions")
            found = whole or _resampled(methods, [first, second], wanted, labels, draws, looks)
            pairs.append(found.pair(first, second))
        except ValueError as error:
            skipped.append({"first": first, "second": second, "reason": str(error)})
    return pairs, skipped, whole


def _resampled(
    methods: Mapping[str, Sequence[RunPredictions]],
    names: Sequence[str],
    wanted: Sequence[str],
    labels: int,
    draws: int,
    looks: Looks | None,
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
    points, drawn = panel.scores(metrics), panel.bootstrap(metrics, draws)
    places = list(columns.values())
    means = {
        key: method_means(panel, key, points[key], drawn[key], places, looks) for key in metrics
    }
    return _Resampled(panel, means, columns)


def _tests(
    found: Sequence[Difference | None],
    families: Sequence[bool],
    metric: str,
    margin: float,
    *,
    joint: bool,
    looks: Looks | None,
) -> list[dict[str, Any] | None]:
    """What each pair's difference by one metric says, corrected for the pairs of its family."""
    lines: list[dict[str, Any] | None] = [None] * len(found)
    for family in (False, True):
        places = [i for i, f in enumerate(found) if f is not None and families[i] == family]
        known = [f for i in places if (f := found[i]) is not None]
        if not known:
            continue
        different = adjusted_different(known, joint=joint)
        equivalent = adjusted_equivalent(known, margin, joint=joint)
        threshold = thresholds(known, joint=joint)
        for i, f, p, q in zip(places, known, different, equivalent, strict=True):
            lines[i] = line = _plain(f, metric, margin, p, q, threshold)
            if looks is not None:
                line["chance"] = chance(f, margin, threshold, looks.last)
    return lines


def _plain(
    found: Difference,
    metric: str,
    margin: float,
    different: float,
    equivalent: float,
    threshold: Threshold,
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
        "needed": needed(found, margin, threshold) if said == "not_resolved" else None,
    }


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
