"""Figures of the quality of the methods."""

from __future__ import annotations

from statistics import median
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.comparison.summary import mean_of
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
from tuneoff.results.summary import MethodSummary, Statistic, half_width


def quality_bars(material: Material) -> Figure | None:
    """Return bar charts of accuracy and macro-F1 with intervals and the majority baseline."""
    if not material.measured:
        return None
    majority = material.summary["reference"]["majority"]
    line = (
        " The dashed line is the score of always predicting the most frequent training label."
        if majority
        else ""
    )
    return Figure(
        "quality-bars",
        "Accuracy and macro-F1 on the test rows",
        "Bars are means over the seeds and start at zero. Thin lines are 95 % confidence intervals "
        f"of the mean over the seeds; with one seed there is none.{line} Grey bars are methods "
        "that train no encoder.",
        [
            _bars(material, "accuracy", majority["accuracy"] if majority else None),
            _bars(material, "macro_f1", majority["macro_f1"] if majority else None),
        ],
    )


def _bars(material: Material, key: str, majority: float | None) -> Plot:
    metric = QUALITY_METRICS[key]
    scored = [(row, mean) for row in material.measured for mean in [mean_of(row, "quality", key)]]
    rows = [row for row, mean in scored if mean is not None]
    means = [mean for _, mean in scored if mean is not None]
    stats = [row["quality"][key] for row in rows]
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
                "marker": {"color": [colour(material.styles[r["name"]].colour) for r in rows]},
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
    """Return the study's metric on a narrow axis, with means, intervals and single seeds."""
    metric = QUALITY_METRICS.get(material.summary["metric"])
    if not material.measured or metric is None:
        return None
    rows, far = near(material.measured, metric.key)
    if not rows:
        return None
    left_out = f" Not shown because of much worse scores: {', '.join(far)}." if far else ""
    traces: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        stat, style = row["quality"][metric.key], material.styles[row["name"]]
        seeds = _seed_values(material, row["name"], metric.key)
        traces += [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [stat["mean"]],
                "y": [place],
                "error_x": error_bars([stat]) | {"color": colour(style.colour), "thickness": 2},
                "marker": {"color": colour(style.colour), "size": 11, "symbol": style.symbol},
                "customdata": [score_hover(row, metric)],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": list(seeds.values()),
                "y": [place + 0.27] * len(seeds),
                "marker": {"color": colour(style.colour, 0.55), "size": 5},
                "customdata": [f"seed {seed}: {value:.4f}" for seed, value in seeds.items()],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
        ]
    return Figure(
        "close-up",
        f"{capital(metric.title)} by seed",
        "The axis does not start at zero. Large markers are means with 95 % confidence intervals "
        "over the seeds, small dots are single seeds. If two intervals overlap widely, these seeds "
        "do not show which method is better. The intervals only cover the variance between seeds, "
        f"not that of drawing other test rows.{left_out}",
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


def error_bars(stats: list[Statistic]) -> dict[str, Any]:
    """Return the 95 % intervals of statistics as Plotly's error bars."""
    halves = [half_width(stat) for stat in stats]
    return {
        "type": "data",
        "array": [half or 0 for half in halves],
        "visible": any(halves),
        "thickness": 1.4,
        "width": 3,
    }


def score_hover(row: MethodSummary, metric: Metric) -> str:
    """Return the tooltip of a method's score."""
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


def height(rows: list[MethodSummary], each: int = 27) -> int:
    """Return the height in pixels of a plot with one line per method."""
    return each * len(rows) + 76


def near(rows: list[MethodSummary], key: str) -> tuple[list[MethodSummary], list[str]]:
    """Return the rows for a narrow axis, and the names of methods too far from the best one.

    Methods without this score, such as a log loss without probabilities, are in neither list.
    """
    rows = [row for row in rows if mean_of(row, "quality", key) is not None]
    if not rows:
        return [], []
    values = _means(rows, key)
    behind = [abs(value - values[0]) for value in values]
    reach = max(0.1, 4 * median(behind))
    near = [
        row
        for row, distance in zip(rows, behind, strict=True)
        if distance <= reach and row["family"] != "baseline"
    ]
    near = near or rows
    return near, [row["name"] for row in rows if row not in near]


def span_of(rows: list[MethodSummary], key: str) -> list[float]:
    """Return the range of an axis for means and intervals; very wide intervals are clipped."""
    stats, means = [row["quality"][key] for row in rows], _means(rows, key)
    low, high = min(means), max(means)
    room = max(high - low, 0.02)
    low = max(min([low, *(s["low"] for s in stats if s["low"] is not None)]), low - room)
    high = min(max([high, *(s["high"] for s in stats if s["high"] is not None)]), high + room)
    pad = max((high - low) * 0.06, 0.004)
    return [low - pad, high + pad]


def _means(rows: list[MethodSummary], key: str) -> list[float]:
    return [mean for row in rows if (mean := mean_of(row, "quality", key)) is not None]


def capital(words: str) -> str:
    """Capitalise the first letter without changing the others."""
    return words[:1].upper() + words[1:]
