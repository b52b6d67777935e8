"""Comparison of a forecast with the actual costs of the finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.results.record import RunRecord, Status

COMPARED = ("train_seconds", "total_seconds", "peak_memory_bytes", "storage_bytes")
"""Costs of which the forecast is compared with the actual value."""


def beside_actual(
    forecast: Mapping[str, Any] | None, records: Sequence[RunRecord]
) -> list[dict[str, Any]]:
    """Forecast and actual means of each method with finished runs that were forecast.

    `{"name", "runs", "train_seconds": {"forecast", "actual"}, …}` for training and total time,
    memory and storage; a method's other runs, of changed settings say, are left out.
    """
    totals = {r["run_id"]: r["total_seconds"] for r in (forecast or {}).get("runs", ())}
    found = []
    for own in (forecast or {}).get("methods", ()):
        done = [r for r in records if r.run_id in own["runs"] and r.status is Status.FINISHED]
        if not done:
            continue
        row: dict[str, Any] = {"name": own["name"], "runs": len(done)}
        for key in COMPARED:
            expected = [totals[r.run_id] if key == "total_seconds" else own[key] for r in done]
            row[key] = {
                "forecast": _mean(expected),
                "actual": _mean([getattr(r.cost, key) for r in done]),
            }
        found.append(row)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
