"""Tables of the cost section: time by part, and forecast compared with actual cost."""

from __future__ import annotations

from collections.abc import Callable

from tuneoff import formatting as fmt
from tuneoff.report.figures.base import Material, mean
from tuneoff.report.tables import Cell, Table
from tuneoff.results.record import PARTS
from tuneoff.results.summary import ForecastCost


def parts_table(material: Material) -> Table | None:
    """Return the time of a run by part, as means over the seeds; None if no record has it."""
    found: dict[str, dict[str, float]] = {}
    for row in material.measured:
        known = [r.cost.parts for r in material.finished(row["name"]) if r.cost.parts]
        if known:
            found[row["name"]] = {
                key: sum(parts.get(key, 0.0) for parts in known) / len(known)
                for key in PARTS
                if any(key in parts for parts in known)
            }
    if not found:
        return None
    keys = [key for key in PARTS if any(key in parts for parts in found.values())]
    rows = []
    for name, parts in found.items():
        total = sum(value for key, value in parts.items() if key != "tokenize")
        cells = [_part(parts.get(key), None if key == "tokenize" else total) for key in keys]
        rows.append([Cell(name), *cells, Cell(fmt.seconds(total), total)])
    return Table(["method", *(PARTS[key] for key in keys), "total"], rows)


def _part(seconds: float | None, total: float | None) -> Cell:
    if seconds is None:
        return Cell(fmt.MISSING)
    share = fmt.percent(round(100 * seconds / total, 1)) if total else ""
    return Cell(fmt.seconds(seconds), seconds, share)


def forecast_table(material: Material) -> Table | None:
    """Return forecast and actual costs with their ratio; None without a forecast."""
    rows = material.summary.get("forecast")
    if not rows:
        return None
    table = [
        [
            Cell(row["name"]),
            *_forecast_cells(row["train_seconds"], fmt.seconds),
            *_forecast_cells(row["total_seconds"], fmt.seconds),
            *_forecast_cells(row["peak_memory_bytes"], fmt.size),
            *_forecast_cells(row["storage_bytes"], fmt.size),
        ]
        for row in rows
    ]
    titles = ("train time", "total time", "peak memory", "storage")
    heads = [head for title in titles for head in (f"{title}, forecast", "actual")]
    return Table(["method", *heads], table)


def _forecast_cells(cost: ForecastCost, show: Callable[[float | None], str]) -> list[Cell]:
    expected, actual = cost["forecast"], cost["actual"]
    return [Cell(show(expected), expected), Cell(show(actual), actual, _ratio(cost))]


def _ratio(cost: ForecastCost) -> str:
    """Return the ratio of actual to forecast as `×1.08`."""
    expected, actual = mean([cost["forecast"]]), mean([cost["actual"]])
    return f"×{actual / expected:.2f}" if expected and actual is not None else ""
