"""Pareto front of quality against cost, with its uncertainty.

A method is *dominated* by another one that costs less and is shown to be equivalent or better, so
there is no reason to use it as far as this cost is concerned. The front consists of the methods
that are not dominated. Point estimates alone would include every score that is higher by chance.
Here the pairwise tests decide, so a method is surely, possibly or not on the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tuneoff.comparison.candidates import CLOSE, COSTS, cost_of, score_of, scores_of
from tuneoff.comparison.pairwise import pair_of
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord
from tuneoff.results.scores import at_chance
from tuneoff.results.summary import MethodSummary, Pairwise, ParetoEntry, ParetoPlace

SURELY: Final = "surely"
POSSIBLY: Final = "possibly"
OFF: Final = "off"


def pareto_fronts(
    rows: Sequence[MethodSummary], pairwise: Pairwise, records: Sequence[RunRecord]
) -> dict[str, list[ParetoEntry]]:
    """Return the methods by cost (`train_seconds`, …), in order of increasing cost.

    Each entry has `name`, `cost`, `score`, `dominated_by` (names of other methods) and `place`:

    - `off`: Another method costs less by more than 10 % and is shown to be equivalent or better, or
      costs no more and is shown to be better.
    - `surely`: All methods that cost at most 10 % more are shown to be worse.
    - `possibly`: Neither; more seeds or test rows may show that it is dominated.

    Methods without a score or without this cost, and those that are no better than guessing, are
    excluded.
    """
    metric = QUALITY_METRICS[pairwise["metric"]]
    rated = [
        row
        for row in rows
        if score_of(row, metric) is not None and not at_chance(scores_of(records, row["name"]))
    ]
    found: dict[str, list[ParetoEntry]] = {}
    for key in COSTS:
        known = [(cost, row) for row in rated if (cost := cost_of(row, key)) is not None]
        known.sort(key=lambda pair: pair[0])
        if known:
            found[key] = [
                {
                    "name": row["name"],
                    "cost": cost,
                    "score": score_of(row, metric),
                    "place": place,
                    "dominated_by": by,
                }
                for cost, row in known
                for place, by in [_place(row["name"], cost, known, pairwise)]
            ]
    return found


def _place(
    name: str, cost: float, known: Sequence[tuple[float, MethodSummary]], pairwise: Pairwise
) -> tuple[ParetoPlace, list[str]]:
    """Return a method's place and the methods that dominate it."""
    by: list[str] = []
    sure = True
    for paid, row in known:
        if row["name"] == name or paid * (1 - CLOSE) > cost:
            continue
        pair = pair_of(pairwise, row["name"], name)
        said = pair["answer"] if pair else "not_resolved"
        sure = sure and said == "worse"
        clearly = paid < (1 - CLOSE) * cost
        if (clearly and said in ("equivalent", "better")) or (paid <= cost and said == "better"):
            by.append(row["name"])
    return OFF if by else SURELY if sure else POSSIBLY, by
