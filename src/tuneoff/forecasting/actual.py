"""Comparison of a forecast with the actual costs of the finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.results.record import RunRecord, Status
from tuneoff.results.summary import ForecastComparison, ForecastCost


def beside_actual(
    forecast: Mapping[str, Any] | None, records: Sequence[RunRecord]
) -> list[ForecastComparison]:
    """Return forecast and actual costs of each method, as means over its finished runs.

    Runs that were not forecast, for example because settings have changed, are left out.
    """
    totals = {r["run_id"]: r["total_seconds"] for r in (forecast or {}).get("runs", ())}
    rows: list[ForecastComparison] = []
    for own in (forecast or {}).get("methods", ()):
        done = [r for r in records if r.run_id in own["runs"] and r.status is Status.FINISHED]
        if not done:
            continue
        rows.append(
            {
                "name": own["name"],
                "runs": len(done),
                "train_seconds": _compared(
                    [own["train_seconds"] for _ in done], [r.cost.train_seconds for r in done]
                ),
                "total_seconds": _compared(
                    [totals[r.run_id] for r in done], [r.cost.total_seconds for r in done]
                ),
                "peak_memory_bytes": _compared(
                    [own["peak_memory_bytes"] for _ in done],
                    [r.cost.peak_memory_bytes for r in done],
                ),
                "storage_bytes": _compared(
                    [own["storage_bytes"] for _ in done], [r.cost.storage_bytes for r in done]
                ),
            }
        )
    return rows


def _compared(expected: Sequence[float | None], actual: Sequence[float | None]) -> ForecastCost:
    return {"forecast": _mean(expected), "actual": _mean(actual)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
