"""Does the verdict keep its word? Simulated studies in which the truth is known.

    python benchmarks/false_alarms.py [STUDY] [--studies 200] [--out false_alarms.json]

Two methods with some seeds each answer the same test rows. Each answer is drawn from that row of
one real run's confusion matrix that belongs to the true label; two runs' answers to one row depend
on each other through

- the row: some rows are hard for everybody;
- the row and the method: each method finds rows of its own hard (where the methods are one and the
  same, there is no such part);
- the group that the row belongs to, where rows come in groups: part of the two above is then the
  same for all rows of a group;
- the row and the seed, and a shift of the run as a whole: another seed is another model,

so that every run errs in the long run as often as the real one did, and in the same way. Where both
methods have the same confusion matrix, `better` or `worse` is a false alarm. Where a difference is
planted, one method has had so many of its hits turned into errors.

With STUDY, the folder of a finished study, the confusion matrix is that of its best method, and its
runs agree as that method's seeds do, or as the two best methods do where there is one seed. Without
it they are those of all-MiniLM-L6-v2 fully fine-tuned on 6,000 rows of SNLI (accuracy 0.759; two
methods differ on 17 % of the rows in being right). Beside the verdict stands what a percentile
bootstrap over seeds and rows together would have claimed. Prints a line per setting, and stores all
figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneoff.compare.pairwise import pairwise
from tuneoff.compare.panel import RunPredictions

Floats = npt.NDArray[np.float64]

SNLI = [[2406, 199, 632], [144, 2736, 488], [516, 392, 2311]]
"""True labels in rows (contradiction, entailment, neutral): accuracy 0.759."""


@dataclass(frozen=True)
class World:
    """What makes two answers to one row alike; `row`, `method` and `shift` are shares of 1."""

    confusion: list[list[float]]
    """Rows are true labels, columns answers; counts or shares."""
    row: float = 0.75
    """Of the row itself, for all runs alike."""
    method: float = 0.0
    """Of the row and the method."""
    shift: float = 0.0004
    """Of the run as a whole; 0.0004 moves an accuracy of 0.76 by 0.6 points (one deviation)."""
    group: float = 0.0
    """Share of `row` and of `method` that all rows of a group have in common."""

    def with_loss(self, points: float) -> World:
        """Accuracy lower by `points` (0.03), every label losing the same share of its hits."""
        confusion = np.array(self.confusion) / np.sum(self.confusion)
        hits = np.diag(confusion)
        lost = hits * points / hits.sum()
        errors = confusion - np.diag(hits)
        errors += lost[:, None] * errors / np.maximum(errors.sum(1, keepdims=True), 1e-12)
        return replace(self, confusion=(errors + np.diag(hits - lost)).tolist())


def answers(
    random: np.random.Generator,
    worlds: tuple[World, World],
    rows: int,
    seeds: int,
    group_rows: int = 1,
    told: bool = True,
) -> dict[str, list[RunPredictions]]:
    """One study: the answers of two methods. `group_rows` rows each form a group; `told`: whether
    the study knows."""
    from scipy.stats import norm

    def hardness(group: float) -> Floats:
        common = random.normal(size=-(-rows // group_rows)).repeat(group_rows)[:rows]
        return np.sqrt(group) * common + np.sqrt(1 - group) * random.normal(size=rows)

    truth = np.array(worlds[0].confusion).sum(1)
    labels = random.choice(len(truth), rows, p=truth / truth.sum())
    groups = np.arange(rows) // group_rows if told and group_rows > 1 else None
    hard = hardness(worlds[0].group)
    found = {}
    for name, world in zip(("first", "second"), worlds, strict=True):
        own = hardness(world.group)
        rest = 1 - world.row - world.method - world.shift
        shares = np.cumsum(_hits_first(np.array(world.confusion)), 1)[labels]
        order = _order(len(truth))[labels]
        runs = []
        for _ in range(seeds):
            level = (
                np.sqrt(world.row) * hard
                + np.sqrt(world.method) * own
                + np.sqrt(world.shift) * random.normal()
                + np.sqrt(rest) * random.normal(size=rows)
            )
            place = (norm.cdf(level)[:, None] > shares[:, :-1]).sum(1)
            predicted = order[np.arange(rows), place]
            runs.append(
                RunPredictions(np.arange(rows), labels, predicted, np.ones(rows), groups=groups)
            )
        found[name] = runs
    return found


def _order(count: int) -> npt.NDArray[np.int64]:
    """For each true label all labels, itself first."""
    return np.array([[label, *(x for x in range(count) if x != label)] for label in range(count)])


def _hits_first(confusion: Floats) -> Floats:
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1e-12)
    return np.take_along_axis(shares, _order(len(confusion)), 1)


def simulate(
    world: World,
    *,
    planted: float = 0.0,
    studies: int = 200,
    seeds: int = 5,
    rows: int = 1000,
    metric: str = "macro_f1",
    draws: int = 1000,
    seed: int = 0,
    group_rows: int = 1,
    told: bool = True,
) -> dict[str, Any]:
    """Shares of simulated studies: of each answer, of `claims` (better or worse), of intervals of
    the accuracy that hold the truth (`covered`), and of claims by the plain bootstrap (`naive`)."""
    random = np.random.default_rng(seed)
    worlds = (world, world.with_loss(planted) if planted else world)
    # the rows of every study are drawn anew, so the same draws of them serve all
    weights = random.multinomial(rows, np.full(rows, 1 / rows), draws) / rows
    count: Counter[str] = Counter()
    agree, spread = [], []
    for _ in range(studies):
        found = answers(random, worlds, rows, seeds, group_rows, told)
        result = pairwise(found, metric, labels=len(world.confusion), draws=draws)
        pair = result["pairs"][0]
        count[pair["answer"]] += 1
        count["naive"] += _naive_claims(found, weights, random)
        tested = pair["also"].get("accuracy", pair)
        count["covered"] += tested["low"] <= planted <= tested["high"]
        first = np.array([run.predictions == run.labels for run in found["first"]])
        agree.append(_agreement(first))
        spread.append(first.mean(1).std(ddof=1) if seeds > 1 else 0.0)
    names = ("better", "worse", "equivalent", "not_resolved", "naive", "covered")
    return {
        **{name: count[name] / studies for name in names},
        "claims": (count["better"] + count["worse"]) / studies,
        "disagreement_of_seeds": 1 - float(np.mean(agree)),
        "accuracy_spread_of_seeds": float(np.sqrt(np.mean(np.square(spread)))),
        "planted": planted,
        "studies": studies,
        "seeds": seeds,
        "rows": rows,
        "metric": metric,
        "group_rows": group_rows,
        "told": told,
        "world": {k: v for k, v in asdict(world).items() if k != "confusion"},
    }


def _agreement(correct: npt.NDArray[np.bool_]) -> float:
    if len(correct) < 2:
        return 1.0
    return float((correct[1:] == correct[0]).mean())


def _naive_claims(
    found: dict[str, list[RunPredictions]], weights: Floats, random: np.random.Generator
) -> bool:
    """Whether the percentile interval of the accuracy, seeds and rows drawn alike, leaves out 0.

    `weights` (draws, rows) is how often each draw has each row, over the rows.
    """
    means = []
    for runs in found.values():
        correct = np.array([run.predictions == run.labels for run in runs], float)
        picks = random.integers(0, len(runs), (len(weights), len(runs)))
        means.append(np.take_along_axis(weights @ correct.T, picks, 1).mean(1))
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return bool(low > 0 or high < 0)


# -- one real study ------------------------------------------------------------------------------


def world_of(folder: Path) -> World:
    """Confusion matrix and agreement of a finished study's best method."""
    from tuneoff.compare import display_order, summarize
    from tuneoff.record import Status
    from tuneoff.store import StudyFolder

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
    """The share with which two runs are both right or both wrong on this share of the rows."""
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
    ("5 seeds, 1,000 rows", {}, {}),
    ("3 seeds", {}, {"seeds": 3}),
    ("2 seeds", {}, {"seeds": 2}),
    ("1 seed, no shift of runs", {"shift": 0.0}, {"seeds": 1}),
    ("methods with hard rows of their own", {"method": 0.1}, {}),
    ("seeds far apart", {"shift": 0.002}, {}),
    ("3 seeds far apart, 4,000 rows", {"shift": 0.002}, {"seeds": 3, "rows": 4000}),
    ("5 seeds, 200 rows", {}, {"rows": 200}),
    ("accuracy in place of macro-F1", {}, {"metric": "accuracy"}),
    ("rows in groups of 10", _IN_GROUPS, {"group_rows": 10}),
    ("… of which the study is not told", _IN_GROUPS, {"group_rows": 10, "told": False}),
)
"""Title, changes of the world, arguments of `simulate`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("study", nargs="?", type=Path, help="folder of a finished study")
    parser.add_argument("--studies", type=int, default=200, help="per setting [200]")
    parser.add_argument("--planted", type=float, default=0.03, help="difference [0.03]")
    parser.add_argument("--only", type=int, help="how many of the settings, from the first")
    parser.add_argument("--skip", type=int, default=0, help="how many of them to leave out")
    parser.add_argument("--out", type=Path, default=Path("false_alarms.json"))
    given = parser.parse_args()
    world = world_of(given.study) if given.study else World([[float(x) for x in r] for r in SNLI])
    print(f"{given.studies} studies per setting; one run in another: row share {world.row:.2f}")
    print("setting                               false alarms (plain)  covered   found (plain)")
    found = []
    chosen = list(enumerate(SETTINGS))[given.skip : given.only]
    for place, (title, changes, arguments) in chosen:
        start = time.perf_counter()
        here = replace(world, **changes)
        arguments = {"studies": given.studies, **arguments}
        same = simulate(here, seed=2 * place, **arguments)
        apart = simulate(here, seed=2 * place + 1, planted=given.planted, **arguments)
        print(
            f"{title:37} {same['claims']:9.1%} ({same['naive']:6.1%})  {same['covered']:9.1%}"
            f" {apart['claims']:7.1%} ({apart['naive']:6.1%})"
            f"  {time.perf_counter() - start:5.0f} s",
            flush=True,
        )
        found.append({"setting": title, "same": same, "planted": apart})
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
