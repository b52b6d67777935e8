"""Pairwise comparison of a study's methods: `pairwise` of `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypedDict

from tuneoff.comparison.bootstrap import PairedPredictions, RunPredictions
from tuneoff.comparison.looks import Looks
from tuneoff.comparison.mcnemar import McNemar, mcnemar
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
    Difference,
    MethodMeans,
    answer,
    method_means,
)
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.summary import Answer, Pair, Pairwise, Scope, SkippedPair, Tested

DRAWS = 2000
"""Bootstrap draws of the rows. The relative standard error of a variance is then 3 %."""
ALWAYS = ("accuracy", "macro_f1")
"""Metrics that are tested in addition to the study's own, each separately."""
LEAST_ROWS = 10
"""Minimum number of common rows for a comparison."""
OPPOSITE: dict[str, Answer] = {
    "better": "worse",
    "worse": "better",
    "equivalent": "equivalent",
    "not_resolved": "not_resolved",
}


@dataclass(frozen=True)
class _FoundPair:
    first: str
    second: str
    runs: tuple[int, int]
    rows: int
    groups: int | None
    mcnemar: McNemar
    found: dict[str, Difference]
    """By metric."""


@dataclass
class _Resampled:
    """Runs of several methods, scored and resampled once for all pairs."""

    panel: PairedPredictions
    means: dict[str, MethodMeans]
    """By metric."""
    columns: dict[str, list[int]]
    """Indices of each method's runs."""

    def pair(self, first: str, second: str) -> _FoundPair:
        one, other = self.columns[first], self.columns[second]
        places = list(self.columns)
        i, j = places.index(first), places.index(second)
        groups = self.panel.groups
        rows = mcnemar(self.panel.correct[one + other], len(one), groups)
        return _FoundPair(
            first,
            second,
            (len(one), len(other)),
            len(self.panel.labels),
            None if groups is None else self.panel.clusters,
            rows,
            {metric: means.difference(i, j) for metric, means in self.means.items()},
        )


@dataclass(frozen=True)
class Comparison:
    """Comparison of a study's methods."""

    plain: Pairwise
    """Plain values for JSON, as `pairwise` returns them."""
    names: list[str]
    """Methods in `means`, in order."""
    means: dict[str, MethodMeans]
    """Mean scores by metric; empty if the methods were tested on different rows."""
    differences: dict[tuple[str, str], Difference]
    """Differences of the study's metric by pair."""

    @property
    def joint(self) -> bool:
        """Whether the errors of all pairs come from the same draws."""
        return bool(self.means)

    def half_width(self, name: str, metric: str) -> float | None:
        """Return half the width of the 95 % interval of a mean over other seeds.

        The methods' variances are moderated, so two seeds suffice. None if it is unknown.
        """
        if metric not in self.means or name not in self.names:
            return None
        place, means = self.names.index(name), self.means[metric]
        return float(means.half_widths[place]) if means.sides[place].seeds > 1 else None

    def with_best(self, names: Sequence[str]) -> dict[str, Bounds]:
        """Compare each of `names` with the best of the others; all pairs must exist."""
        higher = QUALITY_METRICS[self.plain["metric"]].higher_is_better
        return with_best(self.differences, names, higher_is_better=higher, joint=self.joint)


def pairwise(
    methods: Mapping[str, Sequence[RunPredictions]], metric: str, **settings: Any
) -> Pairwise:
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
    """Compare all pairs of methods on the test rows that the runs of both have in common.

    Args:
        methods: Each method's runs, one per seed.
        metric: Key of the study's metric.
        labels: Size of the study's label set.
        margin: Largest difference of `metric` that is irrelevant in practice.
        deterministic: Methods that give the same model with every seed, so one run is sufficient.
        guessing: Methods that are no better than guessing. Their pairs are a separate family of
            tests, so they do not reduce the power for the other pairs.
        data: Fingerprint of each method's data; methods with different data are not compared.
        also: Metrics that are tested in addition, each separately.
        draws: Bootstrap draws of the test rows.
        looks: Interim analyses of a study that adds seeds until its question is answered. The
            intervals are valid at all of them together.

    Returns:
        The comparison. `plain` has `pairs` and `skipped`. In a pair, `answer`, `difference`, …
        compare the `first` method with the `second` by `metric`, and `also` has the same for the
        other metrics. `scope` is `methods`, or `models` if a method has one seed: the answer is
        then about these two models and does not cover other seeds. `groups` is the number of groups
        of rows, which are drawn as a whole, or None. `skipped` has the pairs that cannot be
        compared, with the `reason`.
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
    adjusted = holm([pair.mcnemar.p for pair in pairs])
    lines: list[Pair] = []
    differences = {}
    for place, pair in enumerate(pairs):
        by_metric = {key: found for key in wanted if (found := tests[key][place]) is not None}
        own = by_metric.pop(metric, None)
        if own is None:
            reason = f"{metric} needs probabilities, which the predictions do not have"
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
                "mcnemar": {
                    "only_first": pair.mcnemar.only_first,
                    "only_second": pair.mcnemar.only_second,
                    "p": pair.mcnemar.p,
                    "p_adjusted": adjusted[place],
                },
                "also": by_metric,
            }
        )
    plain: Pairwise = {
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


def _scope(pair: _FoundPair, deterministic: Collection[str]) -> Scope:
    """Return `models` if a method whose models differ between seeds has one run only."""
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
) -> tuple[list[_FoundPair], list[SkippedPair], _Resampled | None]:
    """Return the pairs, the skipped pairs with reasons, and the joint resampling of all methods.

    If all runs have the same rows, the rows are resampled once. Otherwise each pair is resampled
    separately, and there is no joint resampling.
    """
    whole: _Resampled | None = None
    known = [name for name in methods if methods[name]]
    if len({run.rows.tobytes() for name in known for run in methods[name]}) == 1:
        # different true labels are reported below, for the pair of methods concerned
        with suppress(ValueError):
            whole = _resampled(methods, known, wanted, labels, draws, looks)
    pairs: list[_FoundPair] = []
    skipped: list[SkippedPair] = []
    for first, second in combinations(methods, 2):
        try:
            if data.get(first) != data.get(second):
                raise ValueError("they were run on different data")
            if missing := [name for name in (first, second) if not methods[name]]:
                raise ValueError(f"no run of {missing[0]} has stored predictions")
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
    """Score and resample the methods; raise `ValueError` if they cannot be compared."""
    runs: list[RunPredictions] = []
    columns = {}
    for name in names:
        columns[name] = list(range(len(runs), len(runs) + len(methods[name])))
        runs += methods[name]
    panel = PairedPredictions.of(runs, labels)
    if len(panel.labels) < LEAST_ROWS:
        raise ValueError(
            f"they have {len(panel.labels)} test rows in common; a comparison needs {LEAST_ROWS}"
        )
    if panel.clusters < LEAST_ROWS:
        raise ValueError(
            f"their test rows are in {panel.clusters} groups; a comparison needs {LEAST_ROWS}"
        )
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
) -> list[Tested | None]:
    """Test each pair's difference by one metric, corrected for the pairs of its family."""
    lines: list[Tested | None] = [None] * len(found)
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
) -> Tested:
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


def pair_of(found: Pairwise, first: str, second: str) -> Pair | None:
    """Return the comparison of `first` with `second`; None if they were not compared."""
    for pair in found["pairs"]:
        if (pair["first"], pair["second"]) == (first, second):
            return pair.copy()
        if (pair["first"], pair["second"]) == (second, first):
            return _turned(pair)
    return None


def _turned(pair: Pair) -> Pair:
    rows = pair["mcnemar"]
    return {
        **pair,
        "first": pair["second"],
        "second": pair["first"],
        "runs": pair["runs"][::-1],
        **_opposite(pair),
        "mcnemar": {
            **rows,
            "only_first": rows["only_second"],
            "only_second": rows["only_first"],
        },
        "also": {key: {**other, **_opposite(other)} for key, other in pair["also"].items()},
    }


class _Direction(TypedDict):
    """Part of a test that depends on the order of the two methods."""

    answer: Answer
    difference: float
    low: float
    high: float


def _opposite(tested: Tested) -> _Direction:
    return {
        "answer": OPPOSITE[tested["answer"]],
        "difference": -tested["difference"],
        "low": -tested["high"],
        "high": -tested["low"],
    }
