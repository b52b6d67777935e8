"""How well the methods do."""

from __future__ import annotations

from statistics import median
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.report.figures.base import (
    Figure,
    Material,
    Plot,
    axis,
    category_axis,
    heading,
    layout,
    text,
)
from tuneoff.report.palette import colour
from tuneoff.results.metrics import QUALITY_METRICS, Metric

Row = dict[str, Any]


def quality_bars(material: Material) -> Figure | None:
    """Accuracy and macro-F1 from zero, with intervals and the majority label as a line."""
    if not material.measured:
        return None
    majority = material.summary["reference"]["majority"]
    line = (
        " The dashed line is what always answering with the largest label of training scores."
        if majority
        else ""
    )
    return Figure(
        "quality-bars",
        "Accuracy and macro-F1 on the test rows",
        "Bars are means over the seeds and start at zero, so their lengths compare; the thin "
        f"lines are 95 % intervals of the mean over the seeds (one seed has none).{line} Grey bars "
        "train no encoder.",
        [
            _bars(material, key, majority[key] if majority else None)
            for key in ("accuracy", "macro_f1")
        ],
    )


def _bars(material: Material, key: str, majority: float | None) -> Plot:
    rows, metric = material.measured, QUALITY_METRICS[key]
    stats = [row["quality"][key] for row in rows]
    means = [stat["mean"] for stat in stats]
    shapes = []
    if majority is not None:
        shapes.append(_vertical(majority, "ink", "dash"))
    return Plot(
        f"bars-{key}",
        f"Bar chart of {metric.title}: "
        + "; ".join(f"{r['name']} {fmt.score(m)}" for r, m in zip(rows, means, strict=True)),
        [
            {
                "type": "bar",
                "orientation": "h",
                "x": means,
                "y": list(range(len(rows))),
                "width": 0.62,
                "marker": {"color": [colour(material.looks[r["name"]].colour) for r in rows]},
                "error_x": error_bars(stats) | {"color": colour("ink", 0.75)},
                "customdata": [score_hover(row, metric) for row in rows],
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        ],
        layout(
            title=heading(metric.title),
            margin={"l": 8, "r": 48, "t": 28, "b": 28},
            xaxis=axis(range=[min(0, *means), 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1]),
            yaxis=category_axis([row["name"] for row in rows]),
            shapes=shapes,
            annotations=[
                {
                    "x": 1,
                    "xref": "paper",
                    "xanchor": "left",
                    "xshift": 6,
                    "y": place,
                    "text": fmt.score(value),
                    "showarrow": False,
                    "font": {"size": 12, "color": colour("ink")},
                }
                for place, value in enumerate(means)
            ],
        ),
        height(rows),
    )


def close_up(material: Material) -> Figure | None:
    """The study's metric on a narrow axis: every seed a dot, with mean and interval."""
    metric = QUALITY_METRICS.get(material.summary["metric"])
    if not material.measured or metric is None:
        return None
    rows, far = near(material.measured, metric.key)
    left_out = f" Left out, being far behind: {', '.join(far)}." if far else ""
    traces: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        stat, look = row["quality"][metric.key], material.looks[row["name"]]
        seeds = _seed_values(material, row["name"], metric.key)
        traces += [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [stat["mean"]],
                "y": [place],
                "error_x": error_bars([stat]) | {"color": colour(look.colour), "thickness": 2},
                "marker": {"color": colour(look.colour), "size": 11, "symbol": look.symbol},
                "customdata": [score_hover(row, metric)],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": list(seeds.values()),
                "y": [place + 0.27] * len(seeds),
                "marker": {"color": colour(look.colour, 0.55), "size": 5},
                "customdata": [f"seed {seed}: {value:.4f}" for seed, value in seeds.items()],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
        ]
    return Figure(
        "close-up",
        f"{capital(metric.title)} close up, seed by seed",
        "The axis does not start at zero. Marks are means with their 95 % intervals over the "
        "seeds, small dots the single seeds. Where two intervals overlap widely, these seeds do "
        "not settle which method is ahead; the intervals hold the test rows fixed and do not "
        f"cover the luck of their draw.{left_out}",
        [
            Plot(
                "interval-plot",
                f"Means, intervals and single seeds of {metric.title} for each method",
                traces,
                layout(
                    margin={"l": 8, "r": 16, "t": 8, "b": 40},
                    xaxis=axis(metric.title, range=span_of(rows, metric.key)),
                    yaxis=category_axis(
                        [row["name"] for row in rows], showgrid=True, griddash="dot"
                    ),
                ),
                height(rows, each=36) - 20,
            )
        ],
    )


def _seed_values(material: Material, name: str, key: str) -> dict[int, float]:
    return {
        record.seed: float(getattr(record.quality.test, key))
        for record in material.finished(name)
        if record.quality.test
    }


def error_bars(stats: list[dict[str, Any]]) -> dict[str, Any]:
    """The 95 % intervals of some statistics."""
    halves = [fmt.half_width(stat) for stat in stats]
    return {
        "type": "data",
        "array": [half or 0 for half in halves],
        "visible": any(halves),
        "thickness": 1.4,
        "width": 3,
    }


def score_hover(row: Row, metric: Metric) -> str:
    """What a method's mark says under the pointer."""
    stat = row["quality"][metric.key]
    seeds = f"{stat['n']} seed" + ("s" if stat["n"] != 1 else "")
    interval = (
        f"<br>95 % interval {stat['low']:.4f} to {stat['high']:.4f}, {seeds}"
        if stat["low"] is not None
        else f"<br>{seeds}, no interval"
    )
    mean = fmt.score(stat["mean"], 4)
    return f"<b>{text(row['name'], 60)}</b><br>{metric.title} {mean}{interval}"


def _vertical(x: float, name: str, dash: str) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": colour(name), "width": 1.2, "dash": dash},
    }


def height(rows: list[Row], each: int = 27) -> int:
    """Pixels of a plot with a line per method."""
    return each * len(rows) + 76


def near(rows: list[Row], key: str) -> tuple[list[Row], list[str]]:
    """The rows worth a narrow axis, and the names of those too far behind the best for one."""
    values = [float(row["quality"][key]["mean"]) for row in rows]
    behind = [abs(value - values[0]) for value in values]
    reach = max(0.1, 4 * median(behind))
    near = [
        row
        for row, distance in zip(rows, behind, strict=True)
        if distance <= reach and row["family"] != "baseline"
    ]
    near = near or rows
    return near, [row["name"] for row in rows if row not in near]


def span_of(rows: list[Row], key: str) -> list[float]:
    """The range of an axis that holds the means, and the intervals unless they dwarf the means."""
    stats = [row["quality"][key] for row in rows]
    low, high = min(s["mean"] for s in stats), max(s["mean"] for s in stats)
    room = max(high - low, 0.02)
    low = max(min([low, *(s["low"] for s in stats if s["low"] is not None)]), low - room)
    high = min(max([high, *(s["high"] for s in stats if s["high"] is not None)]), high + room)
    pad = max((high - low) * 0.06, 0.004)
    return [low - pad, high + pad]


def capital(words: str) -> str:
    """With a capital first letter, the others as they are."""
    return words[:1].upper() + words[1:]
