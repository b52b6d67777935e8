"""Quality against cost: who is on the front, and how surely.

A method is *dominated* by one that costs less and is shown to be equivalent or better: nobody has a
reason to take it, as far as this cost goes. The front is what is left. Points alone would draw it
through every score that is ahead by luck; here the answers of the pairwise tests decide, so that a
place on the front can be sure, possible, or out of the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.comparison.candidates import CLOSE, COSTS, Row, cost_of, score_of, scores_of
from tuneoff.comparison.pairwise import pair_of
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord
from tuneoff.results.scores import at_chance

SURELY, POSSIBLY, OFF = "surely", "possibly", "off"


def fronts(
    rows: Sequence[Row], pairwise: Mapping[str, Any], records: Sequence[RunRecord]
) -> dict[str, list[dict[str, Any]]]:
    """By cost (`train_seconds`, …), the methods from the cheapest to the dearest.

    Each has `name`, `cost`, `score`, its `place`, and the names of those it is `dominated_by`:

    - `off`: another one costs less by more than a tenth and is shown to be equivalent or better,
      or costs no more and is shown to be better.
    - `surely`: every other one that does not cost more by a tenth is shown to be worse.
    - `possibly`: neither; more seeds or test rows may show it to be dominated.

    Methods without a score or the cost are left out, and those that are no better than guessing.
    """
    metric = QUALITY_METRICS[pairwise["metric"]]
    rated = [
        row
        for row in rows
        if score_of(row, metric) is not None and not at_chance(scores_of(records, row["name"]))
    ]
    found = {}
    for key in COSTS:
        known = [(cost, row) for row in rated if (cost := cost_of(row, key)) is not None]
        known.sort(key=lambda pair: pair[0])
        if known:
            found[key] = [
                {
                    "name": row["name"],
                    "cost": cost,
                    "score": score_of(row, metric),
                    **_place(row["name"], cost, known, pairwise),
                }
                for cost, row in known
            ]
    return found


def _place(
    name: str, cost: float, known: Sequence[tuple[float, Row]], pairwise: Mapping[str, Any]
) -> dict[str, Any]:
    by, sure = [], True
    for paid, row in known:
        if row["name"] == name or paid * (1 - CLOSE) > cost:
            continue
        pair = pair_of(pairwise, row["name"], name)
        said = pair["answer"] if pair else "not_resolved"
        sure = sure and said == "worse"
        clearly = paid < (1 - CLOSE) * cost
        if (clearly and said in ("equivalent", "better")) or (paid <= cost and said == "better"):
            by.append(row["name"])
    return {"place": OFF if by else SURELY if sure else POSSIBLY, "dominated_by": by}
