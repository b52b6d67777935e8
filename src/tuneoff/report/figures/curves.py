"""Figures of training: loss and validation scores by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneoff.report.figures.base import (
    Figure,
    History,
    Material,
    Plot,
    axis,
    heading,
    layout,
    mean,
    text,
)
from tuneoff.report.palette import Style, colour
from tuneoff.results.metrics import QUALITY_METRICS

MOST_POINTS = 240
"""Maximum number of points per curve; more would not be visible and would enlarge the page."""


def validation_curves(material: Material) -> Figure | None:
    """Return plots of validation loss and score after each epoch, with all methods in each."""
    study_metric = material.summary["metric"]
    score = study_metric if study_metric in ("accuracy", "macro_f1") else "macro_f1"
    titles = {"loss": "validation loss", score: f"validation {QUALITY_METRICS[score].title}"}
    plots = [plot for key, title in titles.items() if (plot := _validation(material, key, title))]
    if not plots:
        return None
    return Figure(
        "validation-curves",
        "Validation loss and score by epoch",
        "Means over the seeds on the validation rows after each epoch. If the loss rises while the "
        "score stays constant, the model becomes overconfident. If the score still rises at the "
        "end, more epochs may help. Classical methods and the untrained baseline have no curve.",
        plots,
    )


def _validation(material: Material, key: str, title: str) -> Plot | None:
    traces: list[dict[str, Any]] = []
    ends: list[float] = []
    for row in material.measured:
        style = material.styles[row["name"]]
        curve = _mean_curve(_curves(material, row["name"], "validation", key))
        if not curve:
            continue
        ends.append(curve[-1][0])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [x for x, _ in curve],
                "y": [y for _, y in curve],
                "line": {"color": colour(style.colour), "width": 2, "dash": style.dash},
                "marker": {"color": colour(style.colour), "size": 7, "symbol": style.symbol},
                "customdata": [f"<b>{text(row['name'], 60)}</b>"] * len(curve),
                "hovertemplate": "%{customdata}<br>epoch %{x:.2~f}: %{y:.4f}<extra></extra>",
            }
        )
    if not traces:
        return None
    last = max(ends)
    return Plot(
        f"validation-{key.replace('_', '-')}",
        f"Line chart of {title} over the epochs for each method",
        traces,
        layout(
            title=heading(title),
            xaxis=axis("epoch", dtick=max(1, round(last / 8)), tick0=0),
            yaxis=axis(nticks=7),
        ),
        330,
    )


def loss_curves(material: Material) -> Figure | None:
    """Return plots of training and validation loss, one per method with common axes."""
    curves = {
        row["name"]: (
            _curves(material, row["name"], "train", "loss"),
            _curves(material, row["name"], "validation", "loss"),
        )
        for row in material.measured
    }
    curves = {name: pair for name, pair in curves.items() if pair[0] or pair[1]}
    if not curves:
        return None
    every = [(x, y) for pair in curves.values() for part in pair for seed in part for x, y in seed]
    high = max(y for _, y in every)
    last = max(x for x, _ in every)
    plots = []
    for place, (name, (train, validation)) in enumerate(curves.items()):
        style = material.styles[name]
        plots.append(
            Plot(
                f"loss-{place}",
                f"Training and validation loss of {name} over the epochs",
                _loss_traces(style, train, validation),
                layout(
                    title=heading(text(name, 28)),
                    xaxis=axis(range=[0, last * 1.03], dtick=max(1, round(last / 4)), tick0=0),
                    yaxis=axis(range=[0, high * 1.05], nticks=5),
                    margin={"l": 8, "r": 8, "t": 28, "b": 24},
                ),
                190,
            )
        )
    return Figure(
        "loss-curves",
        "Training and validation loss",
        "Thick line: mean training loss over the seeds. Thin lines: single seeds. Markers: "
        "validation loss after each epoch. All plots have the same axes (loss against epoch). A "
        "growing gap between training and validation loss indicates overfitting. With class "
        "weights, the training loss is weighted.",
        plots,
        least_width=230,
    )


def _loss_traces(
    style: Style,
    train: list[list[tuple[float, float]]],
    validation: list[list[tuple[float, float]]],
) -> list[dict[str, Any]]:
    thin = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _ in seed],
            "y": [y for _, y in seed],
            "line": {"color": colour(style.colour, 0.45), "width": 1},
            "hoverinfo": "skip",
        }
        for seed in train
        if len(train) > 1
    ]
    bold = _mean_curve(train)
    marks = _mean_curve(validation)
    return [
        *thin,
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _ in bold],
            "y": [y for _, y in bold],
            "line": {"color": colour(style.colour), "width": 2},
            "hovertemplate": "training, epoch %{x:.2f}: %{y:.4f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [x for x, _ in marks],
            "y": [y for _, y in marks],
            "line": {"color": colour("ink", 0.7), "width": 1, "dash": "dot"},
            "marker": {
                "color": colour("paper"),
                "size": 8,
                "line": {"color": colour("ink"), "width": 1.6},
            },
            "hovertemplate": "validation, epoch %{x:.2~f}: %{y:.4f}<extra></extra>",
        },
    ]


def _curves(material: Material, name: str, kind: str, key: str) -> list[list[tuple[float, float]]]:
    """Return a curve of (epoch, value) per seed, without empty ones."""
    curves = [
        _points(material.histories.get(record.run_id, []), kind, key)
        for record in material.finished(name)
    ]
    return [curve for curve in curves if curve]


def _points(history: History, kind: str, key: str) -> list[tuple[float, float]]:
    points = [
        (round(float(row["epoch"]), 4), float(row[key]))
        for row in history
        if row.get("kind") == kind
        and mean([row.get("epoch")]) is not None
        and mean([row.get(key)]) is not None
    ]
    stride = max(1, -(-len(points) // MOST_POINTS))
    # counted from the end, so that the last point is included
    return points[::-1][::stride][::-1]


def _mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean over seeds up to the end of the shortest one, which avoids jumps."""
    if not curves:
        return []
    end = min(curve[-1][0] for curve in curves)
    values: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in curve:
            if x <= end:
                values.setdefault(x, []).append(y)
    return [
        (x, round(sum(ys) / len(ys), 5))
        for x, ys in sorted(values.items())
        if len(ys) == len(curves)
    ]
