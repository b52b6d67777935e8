"""Measure the error rates of studies with an adaptive number of seeds, by simulation.

    python benchmarks/adaptive_seeds.py [--studies 1000] [--out adaptive_seeds.json]

The simulated studies are those of `false_alarms.py`: six methods predict 1,000 rows, and the truth
is known. Each study is run with `--seeds 2:8` (two seeds of each method, then one more of those
that may still be recommended, up to eight) and with five seeds of each method. Both use the same
predictions.

A study is `false` if it makes any false claim about a pair at its end, or if the only best method
is ruled out at any look. It is `resolved` if every other method is ruled out as the best, or
equivalent to the best. The script prints a line per setting and writes all figures as JSON. It
takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from false_alarms import SIX, SNLI, World, answers, claimed, worlds_of
from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.looks import Looks
from tuneoff.comparison.next_seeds import worth_another_seed
from tuneoff.comparison.pairwise import Comparison, compare_methods, pair_of
from tuneoff.comparison.recommendation import not_the_best

LOOKS = Looks(2, 8)
FIXED = 5
METRIC = "accuracy"
ROWS = 1000


class Look:
    """Result of a study at one look (interim analysis)."""

    def __init__(self, found: Mapping[str, Sequence[RunPredictions]], looks: Looks | None) -> None:
        self.comparison: Comparison = compare_methods(
            found, METRIC, labels=len(SNLI), also=[], draws=400, looks=looks
        )
        means = {name: _accuracy(runs) for name, runs in found.items()}
        self.best = max(means, key=lambda name: means[name])
        plain = self.comparison.plain
        pairs = {name: pair_of(plain, name, self.best) for name in found if name != self.best}
        self.pairs = {name: pair for name, pair in pairs.items() if pair is not None}
        self.bounds = self.comparison.with_best(list(found))
        self.ruled_out = not_the_best(self.pairs, self.bounds)

    @property
    def resolved(self) -> bool:
        return all(
            name in self.ruled_out or pair["answer"] == "equivalent"
            for name, pair in self.pairs.items()
        )


def _accuracy(runs: Sequence[RunPredictions]) -> float:
    return float(np.mean([run.predictions == run.labels for run in runs]))


def adaptive(
    runs: Mapping[str, Sequence[RunPredictions]], losses: Sequence[float], *, widened: bool = True
) -> dict[str, float]:
    """Simulate one study with `LOOKS`; `widened`: use intervals that hold at all looks."""
    count = dict.fromkeys(runs, LOOKS.first)
    ever_out: set[str] = set()
    looks = LOOKS if widened else Looks(LOOKS.last, LOOKS.last)
    while True:
        look = Look({name: runs[name][:n] for name, n in count.items()}, looks)
        ever_out |= {name for name, bound in look.bounds.items() if bound.ruled_out}
        more = worth_another_seed(look.best, look.pairs, look.ruled_out)
        more = [name for name in more if count[name] < LOOKS.last]
        if not more:
            break
        for name in more:
            count[name] += 1
    return {
        **_judged(look, losses, ever_out),
        "resolved": float(look.resolved),
        "runs": sum(count.values()),
    }


def fixed(
    runs: Mapping[str, Sequence[RunPredictions]], losses: Sequence[float]
) -> dict[str, float]:
    """Simulate one study with `FIXED` seeds of each method."""
    look = Look({name: of[:FIXED] for name, of in runs.items()}, None)
    out = {name for name, bound in look.bounds.items() if bound.ruled_out}
    return {
        **_judged(look, losses, out),
        "resolved": float(look.resolved),
        "runs": FIXED * len(runs),
    }


def _judged(look: Look, losses: Sequence[float], out: set[str]) -> dict[str, float]:
    pairs = look.comparison.plain["pairs"]
    claims = {(p["first"], p["second"]): p["answer"] for p in pairs}
    false = claimed(claims, losses)["false"]
    best = [f"m{place}" for place, loss in enumerate(losses) if loss == min(losses)]
    truths = [losses[int(p["second"][1:])] - losses[int(p["first"][1:])] for p in pairs]
    return {
        "false": float(false or (len(best) == 1 and best[0] in out)),
        "covered": float(
            np.mean([p["low"] <= x <= p["high"] for p, x in zip(pairs, truths, strict=True)])
        ),
    }


SETTINGS: dict[str, tuple[dict[str, float], float]] = {
    "alike": ({}, 0.0),
    "e^±0.5": ({}, 0.5),
    "e^±1": ({}, 1.0),
    "hard rows of their own": ({"method": 0.1}, 0.0),
}
"""By title: changes of the `World`, and the spread of the methods' standard deviations."""


def study_of(
    title: str, losses: Sequence[float], studies: int, *, narrow: bool = False
) -> dict[str, dict[str, float]]:
    """Return means over studies of one setting, by the rule for the number of seeds.

    `narrow`: also use intervals that hold at a single look only.
    """
    changes, spread = SETTINGS[title]
    world = World([[float(x) for x in row] for row in SNLI], **changes)
    random = np.random.default_rng([list(SETTINGS).index(title), len(set(losses))])
    ways: dict[str, Counter[str]] = {"2:8": Counter(), "5": Counter()}
    if narrow:
        ways["2:8, not widened"] = Counter()
    for _ in range(studies):
        runs = answers(random, worlds_of(world, losses, random, spread), ROWS, LOOKS.last)
        ways["2:8"].update(adaptive(runs, losses))
        ways["5"].update(fixed(runs, losses))
        if narrow:
            ways["2:8, not widened"].update(adaptive(runs, losses, widened=False))
    return {
        way: {key: value / studies for key, value in sums.items()} for way, sums in ways.items()
    }


def main() -> None:
    """Run the requested settings."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000, help="per setting [1000]")
    parser.add_argument("--settings", help="indices of settings, e.g. 0-2 or 1 [all]")
    parser.add_argument("--narrow", action="store_true", help="also without the wider intervals")
    parser.add_argument("--out", type=Path, default=Path("adaptive_seeds.json"))
    given = parser.parse_args()
    low, _, high = (given.settings or f"0-{len(SETTINGS) - 1}").partition("-")
    found = []
    for title in list(SETTINGS)[int(low) : int(high or low) + 1]:
        for losses in (SIX, (0.0,) * 6):
            start = time.perf_counter()
            kind = "mixed" if any(losses) else "same"
            ways = study_of(title, losses, given.studies, narrow=given.narrow)
            for way, shares in ways.items():
                print(
                    f"{title:24} {kind:6} {way:17} false {shares['false']:6.1%} "
                    f"covered {shares['covered']:6.1%} resolved {shares['resolved']:6.1%} "
                    f"runs {shares['runs']:5.1f}  {time.perf_counter() - start:5.0f} s",
                    flush=True,
                )
                about = {"setting": title, "kind": kind, "seeds": way, "studies": given.studies}
                found.append({**about, **shares})
            given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
