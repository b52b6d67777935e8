"""Figures of costs: trainable parameters, and quality against cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.comparison.pareto import OFF, POSSIBLY, SURELY
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
from tuneoff.report.figures.quality import (
    capital,
    error_bars,
    height,
    near,
    score_hover,
    span_of,
)
from tuneoff.report.palette import colour
from tuneoff.results.metrics import QUALITY_METRICS, Metric
from tuneoff.results.summary import MethodSummary, ParameterCounts, ParetoPlace


def trainable(material: Material) -> Figure | None:
    """Return the bar chart of trainable parameters on a logarithmic axis."""
    counted = [(row, p) for row in material.measured if (p := row["parameters"])]
    if not counted:
        return None
    counted.sort(key=lambda pair: pair[1]["trainable"])
    rows = [row for row, _ in counted]
    counts = [p["trainable"] for _, p in counted]
    least = min((c for c in counts if c), default=1)
    # start one decade lower, so that the smallest number has a visible bar
    low = max(math.floor(math.log10(least)) - 1, 0)
    high = math.log10(max([*counts, 10]))
    bars = {
        "type": "bar",
        "orientation": "h",
        # with a base, Plotly expects the lengths of the bars
        "x": [c - 10**low if c else None for c in counts],
        "y": list(range(len(rows))),
        "base": 10**low,
        "width": 0.62,
        "marker": {"color": [colour(material.styles[r["name"]].colour) for r in rows]},
        "customdata": [_parameters_hover(row["name"], p) for row, p in counted],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return Figure(
        "trainable",
        "Trainable parameters",
        "Logarithmic axis. The percentage refers to all parameters of the method's model, "
        "including the head.",
        [
            Plot(
                "trainable-bars",
                "Bar chart of trainable parameters: "
                + "; ".join(
                    f"{r['name']} {fmt.count(c)}" for r, c in zip(rows, counts, strict=True)
                ),
                [bars],
                layout(
                    margin={"l": 8, "r": 132, "t": 8, "b": 28},
                    xaxis=axis(
                        type="log",
                        range=[low, high + 0.1],
                        tickvals=[10**e for e in range(low, math.floor(high) + 1)],
                        ticktext=[
                            fmt.count_short(10**e).replace(".00", "").replace(".0", "")
                            for e in range(low, math.floor(high) + 1)
                        ],
                    ),
                    yaxis=category_axis([row["name"] for row in rows]),
                    annotations=[
                        _parameters_note(p, place) for place, (_, p) in enumerate(counted)
                    ],
                ),
                height(rows) - 20,
            )
        ],
    )


def _parameters_note(parameters: ParameterCounts, place: int) -> dict[str, Any]:
    """Return the label with number and percentage at the right of the bar at `place`."""
    count, share = parameters["trainable"], parameters["trainable_percent"]
    return {
        "x": 1,
        "xref": "paper",
        "y": place,
        "text": f"{fmt.count(count)} · {fmt.percent(share)}" if count else "0 · none",
        "showarrow": False,
        "xanchor": "left",
        "xshift": 6,
        "font": {"size": 11.5, "color": colour("ink")},
    }


_COSTS: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("train_seconds", "training time", fmt.seconds),
    ("peak_memory_bytes", "peak memory", fmt.size),
    ("storage_bytes", "storage", fmt.size),
    ("latency_seconds", "latency per text", fmt.milliseconds),
)


def quality_against_cost(material: Material) -> Figure | None:
    """Return plots of the study's metric against each cost, with the Pareto fronts.

    The fronts come from the pairwise tests (`pareto_fronts` of the summary), or from the means if
    nothing was compared.
    """
    metric = QUALITY_METRICS.get(material.summary["metric"])
    if metric is None or not material.measured:
        return None
    rows, far = near(material.measured, metric.key)
    plots = [plot for cost in _COSTS if (plot := _against(material, rows, metric, *cost))]
    if not plots:
        return None
    left_out = f" Not shown because of much worse scores: {', '.join(far)}." if far else ""
    best = "upper" if metric.higher_is_better else "lower"
    front = _FRONT if material.summary.get("pareto_fronts") else _BY_MEANS
    return Figure(
        "quality-cost",
        f"{capital(metric.title)} against cost",
        f"Better methods are at the {best} left. The cost axes are logarithmic. Vertical lines are "
        f"95 % confidence intervals over the seeds. {front} A method without a measured cost is "
        f"missing in that plot.{left_out}",
        plots,
        least_width=270 if len(plots) < 4 else 360,  # four plots are placed two by two
    )


_BY_MEANS = (
    "The stepped line connects the methods for which no other method is both better and cheaper "
    "(Pareto front). They are labelled if there is enough space."
)
_FRONT = (
    "Methods with a ring are surely on the Pareto front: all methods that cost less are shown to "
    "be worse. Pale methods are not on it: a method that costs less is shown to be equivalent or "
    "better. For the others, these runs do not decide it. The stepped line is the front according "
    "to the means, without the pale methods; its methods are labelled if there is enough space."
)


def _against(
    material: Material,
    rows: list[MethodSummary],
    metric: Metric,
    key: str,
    title: str,
    show: Callable[[float | None], str],
) -> Plot | None:
    points = [
        (cost, score, row)
        for row in rows
        if (score := mean_of(row, "quality", metric.key)) is not None
        and (cost := mean_of(row, "cost", key)) is not None
        and cost > 0
    ]
    if not points:
        return None
    places = _places(material, key)
    held = [i for i, p in enumerate(points) if places.get(p[2]["name"]) != OFF]
    ahead = _frontier([points[i][:2] for i in held], metric.higher_is_better)
    frontier = [held[i] for i in ahead]
    costs = [c for c, _, _ in points]
    low, high = math.log10(min(costs)), math.log10(max(costs))
    pad = max(0.12 * (high - low), 0.12)
    ticks = _log_ticks(low - pad, high + pad, minutes=key == "train_seconds")
    span = span_of([r for _, _, r in points], metric.key)
    sides = _label_sides(
        [(math.log10(c), q, len(r["name"])) for c, q, r in points],
        frontier[::-1],
        (low - pad, high + pad),
        (span[0], span[1]),
    )
    traces = [
        _point(material, metric, row, cost, show, sides.get(index), places.get(row["name"]))
        for index, (cost, _, row) in enumerate(points)
    ]
    return Plot(
        f"against-{key.replace('_', '-')}",
        f"Scatter plot of {metric.title} against {title}: "
        + "; ".join(
            f"{r['name']} {fmt.score(q)} at {show(c)}"
            + (f", {_WORDS[place]}" if (place := places.get(r["name"])) else "")
            for c, q, r in points
        ),
        [_step_line([points[i] for i in frontier]), *_rings(points, places), *traces],
        layout(
            title=heading(title),
            xaxis=axis(
                type="log",
                range=[low - pad, high + pad],
                tickvals=ticks,
                ticktext=[_round_number(show(t)) for t in ticks],
            ),
            yaxis=axis(metric.title, range=span, nticks=6),
            margin={"l": 8, "r": 12, "t": 32, "b": 32},
        ),
        310,
    )


def _point(
    material: Material,
    metric: Metric,
    row: MethodSummary,
    cost: float,
    show: Callable[[float | None], str],
    side: str | None,
    place: ParetoPlace | None,
) -> dict[str, Any]:
    style, stat = material.styles[row["name"]], row["quality"][metric.key]
    return {
        "type": "scatter",
        "mode": "markers+text" if side else "markers",
        "x": [cost],
        "y": [stat["mean"]],
        "error_y": error_bars([stat]) | {"color": colour(style.colour, 0.6), "thickness": 1.2},
        "opacity": 0.35 if place == OFF else 1,
        "marker": {"color": colour(style.colour), "size": 10, "symbol": style.symbol},
        "text": [text(row["name"], 16)],
        "textposition": side or "top center",
        "textfont": {"size": 11, "color": colour("ink")},
        "customdata": [
            f"{score_hover(row, metric)}<br>{show(cost)}{f'<br>{_WORDS[place]}' if place else ''}"
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "cliponaxis": False,
    }


_WORDS: dict[ParetoPlace, str] = {
    SURELY: "surely on the Pareto front",
    POSSIBLY: "possibly on the Pareto front",
    OFF: "not on the Pareto front",
}


def _step_line(frontier: list[tuple[float, float, MethodSummary]]) -> dict[str, Any]:
    """Return the line that connects the points of a front, cheapest first."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [c for c, _, _ in frontier],
        "y": [q for _, q, _ in frontier],
        "line": {"color": colour("muted", 0.5), "width": 1, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _rings(
    points: list[tuple[float, float, MethodSummary]], places: dict[str, ParetoPlace]
) -> list[dict[str, Any]]:
    """Return a trace with rings around the methods that are surely on the front, if any."""
    certain = [(c, q) for c, q, row in points if places.get(row["name"]) == SURELY]
    ring = {
        "type": "scatter",
        "mode": "markers",
        "x": [c for c, _ in certain],
        "y": [q for _, q in certain],
        "marker": {
            "color": colour("ink"),
            "size": 18,
            "symbol": "circle-open",
            "line": {"width": 1.3},
        },
        "hoverinfo": "skip",
        "cliponaxis": False,
    }
    return [ring] if certain else []


def _places(material: Material, key: str) -> dict[str, ParetoPlace]:
    """Return each method's place relative to the front; empty if nothing was compared."""
    front = material.summary.get("pareto_fronts") or {}
    return {entry["name"]: entry["place"] for entry in front.get(key, [])}


def _frontier(points: list[tuple[float, float]], higher_is_better: bool) -> list[int]:
    """Return the indices of the points on the Pareto front, cheapest first."""
    sign = 1 if higher_is_better else -1
    best, found = -math.inf, []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1])):
        if sign * points[index][1] > best:
            best = sign * points[index][1]
            found.append(index)
    return found


def _label_sides(
    points: list[tuple[float, float, int]],
    order: list[int],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> dict[int, str]:
    """Place the labels of points so that they cover neither markers nor each other.

    The computation uses the smallest size of the plot in pixels. A point without enough space gets
    no label.

    Args:
        points: x, y and number of letters of each point.
        order: Indices of the points to label, in order of priority.
        x_range: Range of the x axis.
        y_range: Range of the y axis.

    Returns:
        Plotly's text position by index.
    """
    width, height, letter, line, gap = 190.0, 230.0, 6.4, 13.0, 5.0
    x = [(p[0] - x_range[0]) / (x_range[1] - x_range[0]) * width for p in points]
    y = [(p[1] - y_range[0]) / (y_range[1] - y_range[0]) * height for p in points]
    taken = [(a - gap, b - gap, a + gap, b + gap) for a, b in zip(x, y, strict=True)]
    sides: dict[int, str] = {}
    for index in order:
        long = min(points[index][2], 16) * letter
        for vertical, horizontal in product(("top", "bottom"), ("right", "left")):
            left = x[index] + gap if horizontal == "right" else x[index] - gap - long
            low = y[index] + gap if vertical == "top" else y[index] - gap - line
            box = (left, low, left + long, low + line)
            others = taken[:index] + taken[index + 1 :]
            inside = box[0] >= 0 and box[2] <= width + gap and low + line <= height + line
            if inside and not any(_crosses(box, other) for other in others):
                taken.append(box)
                sides[index] = f"{vertical} {horizontal}"
                break
    return sides


def _crosses(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _log_ticks(low: float, high: float, *, minutes: bool) -> list[float]:
    """Return round values for a logarithmic axis, about four or five of them."""
    if minutes:
        steps = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 36000, 86400]
        every = [float(s) for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, *steps)]
    else:
        every = [m * 10.0**e for e in range(-6, 14) for m in (1, 2, 5)]
    inside = [value for value in every if low <= math.log10(value) <= high]
    stride = max(1, math.ceil(len(inside) / 4))
    return inside[::stride]


def _round_number(text: str) -> str:
    """Remove trailing zeros of a round value: `2m 00s` to `2m`, `2.00 MB` to `2 MB`."""
    return text.removesuffix(" 00s").removesuffix(" 00m").replace(".00", "").replace(".0 ", " ")


def _parameters_hover(name: str, p: ParameterCounts) -> str:
    return (
        f"<b>{text(name, 60)}</b><br>{fmt.count(p['trainable'])} of "
        f"{fmt.count(p['total'])} parameters<br>body {fmt.count(p['trainable_body'])}, "
        f"head {fmt.count(p['trainable_head'])}"
    )
