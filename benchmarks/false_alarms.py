"""Measure the error rates of the verdict by simulated studies in which the truth is known.

    python benchmarks/false_alarms.py [STUDY] [--studies 1000] [--out false_alarms.json]

Two or six methods with some seeds each predict the same test rows. Each prediction is drawn from
the confusion matrix of a real run, from its row for the true label. The predictions of two runs for
one row are correlated by

- the row: some rows are hard for all methods;
- the row and the method: each method has its own hard rows (not if the methods are equal);
- the group of the row, if rows belong to groups: a part of the two effects above is then the same
  for all rows of a group;
- the row and the seed, and a shift of the whole run: another seed gives another model. The shifts
  of all methods have the same standard deviation, or each method's is multiplied by e to the power
  of a normal variable times `spread`.

On average, every run therefore has the errors of the real one. In the first part of the studies all
methods are equal, and `better` or `worse` is a false claim. In the second part, correct predictions
of some methods are turned into errors, so that some pairs differ and some do not: with two methods,
one by 3 points; with six methods, three by 3 points and two by 10 points.

With STUDY, the folder of a finished study, the confusion matrix is that of its best method, and the
runs agree as often as that method's seeds do, or as the two best methods do if there is one seed.
Without STUDY, the matrix is that of all-MiniLM-L6-v2 fully fine-tuned on 6,000 rows of SNLI
(accuracy 0.759; on 17 % of the rows, one of two methods is right and the other is not).

The figures in brackets are those of the procedure of version 0.1 (`former_verdict.py`). The script
prints a line per setting and writes all figures as JSON. 1,000 studies of six methods take 2 to 5
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from former_verdict import former_claims
from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.pairwise import Comparison, compare_methods

Floats = npt.NDArray[np.float64]

SNLI = [[2406, 199, 632], [144, 2736, 488], [516, 392, 2311]]
"""True labels in rows (contradiction, entailment, neutral): accuracy 0.759."""
TWO, SIX = (0.0, 0.03), (0.0, 0.03, 0.03, 0.03, 0.1, 0.1)
"""Accuracy that each method loses in the second part of the studies."""
MIXED = 0.4
"""Number of studies with differences, as a ratio to those without."""


@dataclass(frozen=True)
class World:
    """Sources of correlation between predictions; `row`, `method`, `shift` are fractions of 1."""

    confusion: list[list[float]]
    """Rows are true labels, columns predicted labels; counts or fractions."""
    row: float = 0.75
    """Fraction of the variance due to the row, equal for all runs."""
    method: float = 0.0
    """Fraction due to the row and the method."""
    shift: float = 0.0004
    """Fraction due to the run; 0.0004 shifts an accuracy of 0.76 by 0.6 points (one deviation)."""
    group: float = 0.0
    """Fraction of `row` and of `method` that is the same for all rows of a group."""

    def with_loss(self, points: float) -> World:
        """Lower the accuracy by `points` (0.03); each label loses the same fraction of its hits."""
        confusion = np.array(self.confusion) / np.sum(self.confusion)
        hits = np.diag(confusion)
        lost = hits * points / hits.sum()
        errors = confusion - np.diag(hits)
        errors += lost[:, None] * errors / np.maximum(errors.sum(1, keepdims=True), 1e-12)
        return replace(self, confusion=(errors + np.diag(hits - lost)).tolist())


def worlds_of(
    world: World,
    losses: Sequence[float],
    random: np.random.Generator,
    spread: float = 0.0,
    outlier: float = 1.0,
) -> list[World]:
    """Return the world of each method of a study; `spread` and `outlier` as in `simulate`."""
    factors = np.exp(2 * spread * random.normal(size=len(losses)))
    factors[-1] *= outlier**2
    return [
        replace(world.with_loss(loss) if loss else world, shift=min(world.shift * factor, 0.2))
        for loss, factor in zip(losses, factors, strict=True)
    ]


def answers(
    random: np.random.Generator,
    worlds: Sequence[World],
    rows: int,
    seeds: int,
    group_rows: int = 1,
    named: bool = True,
) -> dict[str, list[RunPredictions]]:
    """Draw the predictions of all methods of a study.

    Args:
        random: Random generator.
        worlds: World of each method.
        rows: Number of test rows.
        seeds: Number of runs of each method.
        group_rows: Number of rows per group.
        named: Whether the study names the groups.

    Returns:
        The runs of each method `m0`, `m1`, ….
    """
    from scipy.special import ndtr

    def hardness(group: float) -> Floats:
        common = random.normal(size=-(-rows // group_rows)).repeat(group_rows)[:rows]
        return np.sqrt(group) * common + np.sqrt(1 - group) * random.normal(size=rows)

    truth = np.array(worlds[0].confusion).sum(1)
    labels = random.choice(len(truth), rows, p=truth / truth.sum())
    groups = np.arange(rows) // group_rows if named and group_rows > 1 else None
    hard = hardness(worlds[0].group)
    order = _order(len(truth))[labels]
    found = {}
    for place, world in enumerate(worlds):
        own = hardness(world.group)
        rest = 1 - world.row - world.method - world.shift
        shares = np.cumsum(_hits_first(np.array(world.confusion)), 1)[labels]
        runs = []
        for _ in range(seeds):
            level = (
                np.sqrt(world.row) * hard
                + np.sqrt(world.method) * own
                + np.sqrt(world.shift) * random.normal()
                + np.sqrt(rest) * random.normal(size=rows)
            )
            column = (ndtr(level)[:, None] > shares[:, :-1]).sum(1)
            predicted = order[np.arange(rows), column]
            runs.append(
                RunPredictions(np.arange(rows), labels, predicted, np.ones(rows), groups=groups)
            )
        found[f"m{place}"] = runs
    return found


def _order(count: int) -> npt.NDArray[np.int64]:
    """Return for each true label all labels, the true one first."""
    return np.array([[label, *(x for x in range(count) if x != label)] for label in range(count)])


def _hits_first(confusion: Floats) -> Floats:
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1e-12)
    return np.take_along_axis(shares, _order(len(confusion)), 1)


def simulate(
    world: World,
    *,
    losses: Sequence[float] = (0.0, 0.0),
    studies: int = 200,
    seeds: int = 5,
    rows: int = 1000,
    metric: str = "accuracy",
    draws: int = 400,
    seed: int = 0,
    spread: float = 0.0,
    outlier: float = 1.0,
    group_rows: int = 1,
    named: bool = True,
    former: bool = True,
) -> dict[str, Any]:
    """Simulate studies of methods with these `losses` of accuracy.

    Args:
        world: World of all methods, before the losses.
        losses: Loss of accuracy of each method.
        studies: Number of studies.
        seeds: Number of runs of each method.
        rows: Number of test rows.
        metric: Metric of the study.
        draws: Bootstrap draws of the rows.
        seed: Random seed.
        spread: Standard deviation of the logarithm of the methods' standard deviations over seeds.
        outlier: Factor of the last method's standard deviation over seeds.
        group_rows: Number of rows per group.
        named: Whether the study names the groups.
        former: Whether to apply the procedure of version 0.1, too.

    Returns:
        Means over the studies of the results of `_judged`, and the settings.
    """
    random = np.random.default_rng(seed)
    also = [] if metric == "accuracy" else ["accuracy"]
    count: Counter[str] = Counter()
    disagreement, deviation = [], []
    for _ in range(studies):
        worlds = worlds_of(world, losses, random, spread, outlier)
        found = answers(random, worlds, rows, seeds, group_rows, named)
        compared = compare_methods(
            found, metric, labels=len(world.confusion), also=also, draws=draws
        )
        count.update(_judged(compared, losses))
        if former:
            claims = former_claims(compared.means[metric], rows)
            count.update({f"former_{k}": v for k, v in claimed(claims, losses).items()})
        if len(losses) == 2:
            count["naive"] += _naive_claims(found, draws, random)
        first = np.array([run.predictions == run.labels for run in found["m0"]])
        disagreement.append(1 - _agreement(first))
        deviation.append(first.mean(1).std(ddof=1) if seeds > 1 else 0.0)
    return {
        **{name: value / studies for name, value in count.items()},
        "disagreement_of_seeds": float(np.mean(disagreement)),
        "accuracy_deviation_of_seeds": float(np.sqrt(np.mean(np.square(deviation)))),
        "losses": list(losses),
        "studies": studies,
        "seeds": seeds,
        "rows": rows,
        "metric": metric,
        "spread": spread,
        "group_rows": group_rows,
        "named": named,
        "world": {k: v for k, v in asdict(world).items() if k != "confusion"},
    }


def _judged(compared: Comparison, losses: Sequence[float]) -> dict[str, float]:
    """Compare a study's verdict with the truth.

    Returns:
        `false`: 1 if any claim about a pair is false, or if the only best method is ruled out.
        `covered`: Fraction of the pairs' 95 % intervals of the accuracy that contain the truth.
        `bounds`: 1 if the bounds of all methods against the best hold.
        `found_3`, `found_10`: Fraction of the pairs with the best that differ by this number of
        points and are resolved.
        `ruled_out_3`: Fraction of the methods 3 points below the best that are ruled out as best.
    """
    names = [f"m{place}" for place in range(len(losses))]
    pairs = compared.plain["pairs"]
    truths = [losses[int(p["second"][1:])] - losses[int(p["first"][1:])] for p in pairs]
    tested = [p["also"].get("accuracy", p) for p in pairs]
    claims = {(p["first"], p["second"]): p["answer"] for p in pairs}
    judged = claimed(claims, losses)
    judged["covered"] = float(
        np.mean([t["low"] <= x <= t["high"] for t, x in zip(tested, truths, strict=True)])
    )
    bounds = compared.with_best(names)
    best = [name for name, loss in zip(names, losses, strict=True) if loss == min(losses)]
    truth = {
        name: min(o for other, o in zip(names, losses, strict=True) if other != name) - loss
        for name, loss in zip(names, losses, strict=True)
    }
    judged["bounds"] = float(
        all(-b.behind - 1e-12 <= truth[n] <= b.ahead + 1e-12 for n, b in bounds.items())
    )
    out = [name for name in names if bounds[name].ruled_out]
    judged["false"] = float(judged["false"] or (len(best) == 1 and best[0] in out))
    if 0.03 in losses:
        behind = [n for n, loss in zip(names, losses, strict=True) if loss == 0.03]
        judged["ruled_out_3"] = float(np.mean([n in out for n in behind]))
    return judged


def claimed(claims: Mapping[tuple[str, str], str], losses: Sequence[float]) -> dict[str, float]:
    """Return `false`, `found_3` and `found_10` for claims about pairs."""
    false, found = False, {0.03: [], 0.1: []}
    for (first, second), claim in claims.items():
        difference = losses[int(second[1:])] - losses[int(first[1:])]
        true = "better" if difference > 0 else "worse"
        resolved = claim in ("better", "worse")
        false |= resolved and (difference == 0 or claim != true)
        false |= claim == "equivalent" and abs(difference) >= 0.01
        if min(losses[int(first[1:])], losses[int(second[1:])]) == 0 and abs(difference) in found:
            found[abs(difference)].append(claim == true)
    return {
        "false": float(false),
        **{f"found_{100 * k:.0f}": float(np.mean(v)) for k, v in found.items() if v},
    }


def _agreement(correct: npt.NDArray[np.bool_]) -> float:
    if len(correct) < 2:
        return 1.0
    return float((correct[1:] == correct[0]).mean())


def _naive_claims(
    found: dict[str, list[RunPredictions]], draws: int, random: np.random.Generator
) -> bool:
    """Return whether a percentile bootstrap interval over seeds and rows excludes 0."""
    rows = len(next(iter(found.values()))[0].rows)
    weights = random.multinomial(rows, np.full(rows, 1 / rows), draws) / rows
    means = []
    for runs in found.values():
        correct = np.array([run.predictions == run.labels for run in runs], float)
        picks = random.integers(0, len(runs), (draws, len(runs)))
        means.append(np.take_along_axis(weights @ correct.T, picks, 1).mean(1))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return bool(low > 0 or high < 0)


def world_of(folder: Path) -> World:
    """Return the confusion matrix and the agreement of a finished study's best method."""
    from tuneoff.comparison.summary import display_order, summarize
    from tuneoff.results.record import Status
    from tuneoff.results.store import StudyFolder

    study = StudyFolder.open(folder)
    records = [r for run in study.runs() if (r := run.record()) and r.status is Status.FINISHED]
    if not records:
        raise SystemExit(f"{folder} has no finished run")
    summary = summarize(study.spec(), study.task(), records)
    labels = summary["labels"]
    names = [row["name"] for row in display_order(summary)]
    runs = {
        name: [
            RunPredictions.from_table(study.run(r.run_id).predictions(), labels)
            for r in records
            if r.method.name == name
        ]
        for name in names
    }
    best = runs[names[0]]
    alike = best if len(best) > 1 else [*best, *runs[names[1]]] if len(names) > 1 else best
    confusion = np.zeros((len(labels), len(labels)))
    for run in best:
        np.add.at(confusion, (run.labels, run.predictions), 1)
    confusion = confusion[confusion.sum(1) > 0][:, confusion.sum(1) > 0]
    correct = np.array([run.predictions == run.labels for run in alike])
    return World(confusion.tolist(), row=_row_share(confusion, _agreement(correct)))


def _row_share(confusion: Floats, agreement: float) -> float:
    """Return the value of `World.row` for which two runs agree on this fraction of the rows."""
    from scipy.optimize import brentq
    from scipy.stats import multivariate_normal, norm

    truth = confusion.sum(1) / confusion.sum()
    recall = np.clip(np.diag(confusion) / confusion.sum(1), 1e-3, 1 - 1e-3)

    def excess(share: float) -> float:
        both = [
            multivariate_normal.cdf([z, z], cov=[[1, share], [share, 1]]) for z in norm.ppf(recall)
        ]
        return float(truth @ (1 - 2 * (recall - np.array(both)))) - agreement

    if excess(0.01) > 0:
        return 0.01
    return 0.98 if excess(0.98) < 0 else float(brentq(excess, 0.01, 0.98, xtol=1e-3))


_IN_GROUPS = {"method": 0.2, "group": 0.7}
SETTINGS: tuple[tuple[str, dict[str, float], dict[str, Any]], ...] = (
    *(
        (f"6 methods, {seeds} seeds, {title}", {}, {"seeds": seeds, "spread": spread})
        for spread, title in ((0.0, "alike"), (0.5, "e^±0.5"), (1.0, "e^±1"))
        for seeds in (2, 3, 5)
    ),
    ("6 methods, 3 seeds, one 10 times apart", {}, {"seeds": 3, "outlier": 10.0}),
    ("6 methods, 3 seeds, hard rows of their own", {"method": 0.1}, {"seeds": 3}),
    ("6 methods, 2 seeds, 10,000 rows", {}, {"seeds": 2, "rows": 10_000, "studies_of": 0.2}),
    ("5 seeds, 1,000 rows", {}, {}),
    ("3 seeds", {}, {"seeds": 3}),
    ("2 seeds", {}, {"seeds": 2}),
    ("1 seed, no shift of runs", {"shift": 0.0}, {"seeds": 1}),
    ("methods with hard rows of their own", {"method": 0.1}, {}),
    ("seeds far apart", {"shift": 0.002}, {}),
    ("3 seeds far apart, 4,000 rows", {"shift": 0.002}, {"seeds": 3, "rows": 4000}),
    ("5 seeds, 200 rows", {}, {"rows": 200}),
    ("macro-F1 in place of accuracy", {}, {"metric": "macro_f1"}),
    ("rows in groups of 10", _IN_GROUPS, {"group_rows": 10}),
    ("… which the study does not name", _IN_GROUPS, {"group_rows": 10, "named": False}),
)
"""Title (as in the stored results), changes of the `World`, arguments of `simulate`."""


def main() -> None:
    """Run the requested settings."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("study", nargs="?", type=Path, help="folder of a finished study")
    parser.add_argument("--studies", type=int, default=1000, help="per setting [1000]")
    parser.add_argument("--settings", help="indices of settings, e.g. 0-8 or 3 [all]")
    parser.add_argument("--out", type=Path, default=Path("false_alarms.json"))
    given = parser.parse_args()
    world = world_of(given.study) if given.study else World([[float(x) for x in r] for r in SNLI])
    low, _, high = (given.settings or f"0-{len(SETTINGS) - 1}").partition("-")
    differ = round(MIXED * given.studies)
    print(
        f"{given.studies} studies per setting, {differ} with differences; row share {world.row:.2f}"
    )
    print("In brackets: procedure of version 0.1.")
    print(f"{'':44} false, same   false, mixed  covered bounds  3 points   ruled  10 points")
    found = []
    for place, (title, changes, arguments) in list(enumerate(SETTINGS))[
        int(low) : int(high or low) + 1
    ]:
        start = time.perf_counter()
        here = replace(world, **changes)
        arguments = {**arguments}
        studies = round(given.studies * arguments.pop("studies_of", 1.0))
        six = title.startswith("6")
        losses = SIX if six else TWO
        same = simulate(
            here, seed=2 * place, losses=[0.0] * len(losses), studies=studies, **arguments
        )
        fewer = round(MIXED * studies)
        mixed = simulate(here, seed=2 * place + 1, losses=losses, studies=fewer, **arguments)
        print(f"{title:44} {_line(same, mixed)}  {time.perf_counter() - start:5.0f} s", flush=True)
        found.append({"setting": title, "same": same, "mixed": mixed})
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def _line(same: dict[str, Any], mixed: dict[str, Any]) -> str:
    def both(of: dict[str, Any], key: str) -> str:
        if key not in of:
            return f"{'':14}"
        return f"{of[key]:6.1%} ({of[f'former_{key}']:5.1%})"

    covered = (same["covered"] + mixed["covered"]) / 2
    bounds = (same["bounds"] + mixed["bounds"]) / 2
    return (
        f"{both(same, 'false')} {both(mixed, 'false')} {covered:6.1%} {bounds:6.1%} "
        f"{both(mixed, 'found_3')} {mixed['ruled_out_3']:6.1%} {both(mixed, 'found_10')}"
        + (f" plain {same['naive']:.1%} {mixed['naive']:.1%}" if "naive" in same else "")
    )


if __name__ == "__main__":
    main()
