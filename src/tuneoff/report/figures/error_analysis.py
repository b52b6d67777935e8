"""Figures of the error analysis: errors by label, overlap of methods, and confidence."""

from __future__ import annotations

from typing import Any

from tuneoff import formatting as fmt
from tuneoff.error_analysis import ErrorAnalysis
from tuneoff.error_analysis.confidence import Bin, Margins
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
from tuneoff.report.palette import Style, colour

LEAST_BIN = 10
"""Minimum number of predictions for a point of a reliability diagram."""


def error_labels(material: Material) -> Figure | None:
    """Return the bar chart of errors by true and predicted label, one method at a time."""
    found = material.errors
    if found is None:
        return None
    # in the order of the page's selector; methods without predictions have empty bars
    variants = [_label_bars(found, row["name"]) for row in material.measured]
    labels = material.summary["labels"]
    few = len(labels) <= 30
    each = 34 if few else 15
    return Figure(
        "error-labels",
        "Errors by label",
        "Filled bars: percentage of the method's errors whose true label is this one (false "
        "negatives). Outlined bars: percentage of the errors that were predicted as this label "
        "(false positives). The vertical mark is the label's percentage of all test rows. A filled "
        "bar beyond the mark is a label that is harder than others; an outlined bar beyond the "
        "mark is a label that the method predicts too often.",
        [
            Plot(
                "error-label-bars",
                "Bar chart of the percentage of errors by true and by predicted label; the table "
                "of the most confused pairs has numbers",
                variants[0],
                layout(
                    margin={"l": 8, "r": 16, "t": 8, "b": 40},
                    barmode="group",
                    bargap=0.28,
                    bargroupgap=0.08,
                    xaxis=axis("% of errors", tickformat=".1~%", rangemode="tozero"),
                    yaxis=category_axis(
                        labels, 26, tickfont={"size": 11 if few else 8.5, "color": colour("muted")}
                    ),
                ),
                round(each * len(labels)) + 64,
                variants=variants,
            )
        ],
    )


def _label_bars(found: ErrorAnalysis, name: str) -> list[dict[str, Any]]:
    lines = found.labels.get(name, [])
    total = sum(x.missed for x in lines) or 1.0
    everything = sum(x.rows for x in lines) or 1
    places = list(range(len(lines)))
    common: dict[str, Any] = {"y": places, "hovertemplate": "%{customdata}<extra></extra>"}
    bar = common | {"type": "bar", "orientation": "h"}
    return [
        bar
        | {
            "x": [x.missed / total for x in lines],
            "marker": {"color": colour("m1")},
            "customdata": [
                f"<b>{text(x.label, 60)}</b><br>{x.missed:.1f} false negatives of {x.rows} rows"
                for x in lines
            ],
        },
        bar
        | {
            "x": [x.mistaken / total for x in lines],
            "marker": {"color": colour("m1", 0.12), "line": {"color": colour("m1"), "width": 1.3}},
            "customdata": [
                f"<b>{text(x.label, 60)}</b><br>{x.mistaken:.1f} false positives" for x in lines
            ],
        },
        common
        | {
            "type": "scatter",
            "mode": "markers",
            "x": [x.rows / everything for x in lines],
            "marker": {"symbol": "line-ns-open", "size": 16, "color": colour("ink")},
            "customdata": [
                f"<b>{text(x.label, 60)}</b><br>{fmt.percent(100 * x.rows / everything)} of all "
                "test rows"
                for x in lines
            ],
        },
    ]


def overlap_maps(material: Material) -> Figure | None:
    """Return heat maps of corrected errors and of error consistency for all pairs of methods."""
    found = material.errors
    names = _names(material)
    if found is None or len(names) < 2:
        return None
    places = {name: i for i, name in enumerate(names)}
    n = len(names)
    fixes: list[list[float | None]] = [[None] * n for _ in names]
    alike: list[list[float | None]] = [[None] * n for _ in names]
    for p in found.overlap.pairs:
        if p.first in places and p.second in places:
            i, j = places[p.first], places[p.second]
            fixes[i][j], fixes[j][i] = p.first_only, p.second_only
            alike[i][j] = alike[j][i] = p.consistency
            if i == j:
                fixes[i][i] = (p.first_only + p.second_only) / 2
    return Figure(
        "overlap",
        "Overlap of errors between methods",
        "Corrected errors: percentage of the test rows that the method of the row predicts "
        "correctly and the method of the column wrongly. Error consistency: 0 if errors coincide "
        "as often as expected by chance, 1 if both methods are wrong on the same rows. "
        + _yardstick([alike[i][i] for i in range(n)]),
        [
            _map("overlap-fixes", "corrected errors", names, fixes, ".1%", "wrong"),
            _map("overlap-consistency", "error consistency", names, alike, ".2f", None),
        ],
        least_width=360 if n <= 5 else 120 + 44 * n,  # otherwise one below the other
    )


def _yardstick(diagonal: list[float | None]) -> str:
    if all(value is None for value in diagonal):
        return (
            "The diagonal, which compares the seeds of a method with each other, is empty, because "
            "there is only one seed."
        )
    return (
        "The diagonal compares the seeds of a method with each other. If the value of two methods "
        "is close to those on the diagonal, they differ as little as two seeds of one method."
    )


def _map(
    id: str,
    title: str,
    names: list[str],
    cells: list[list[float | None]],
    form: str,
    across: str | None,
) -> Plot:
    known = [v for line in cells for v in line if v is not None]
    return Plot(
        id,
        f"Heat map of {title} for each pair of {len(names)} methods; the table of pairs below "
        "has the numbers",
        [
            {
                "type": "heatmap",
                "z": cells,
                "zmin": 0,
                "zmax": max([*known, 0.01]) if across else 1,
                "xgap": 1,
                "ygap": 1,
                "hoverongaps": False,
                "showscale": False,
                "colorscale": [[i / 3, colour(f"heat{i}")] for i in range(4)],
                "text": [["" if v is None else f"{v:{form}}" for v in line] for line in cells],
                "texttemplate": "%{text}",
                "textfont": {"size": 10.5 if len(names) < 8 else 9},
                "hovertemplate": "%{y} · %{x}: %{text}<extra></extra>",
            }
        ],
        layout(
            title=heading(title),
            margin={"l": 8, "r": 8, "t": 34, "b": 8},
            xaxis=category_axis(names, 14, range=[-0.5, len(names) - 0.5], tickangle=-40),
            yaxis=category_axis(names, 14, title="correct" if across else None),
        ),
        34 * len(names) + 150,
        min_width=None if len(names) <= 5 else 120 + 44 * len(names),
    )


def margin_boxes(material: Material) -> Figure | None:
    """Return box plots of the predicted minus the true label's probability of the errors."""
    found = material.errors
    if found is None:
        return None
    margins = {
        name: c.margins
        for name in _names(material)
        if (c := found.confidence.get(name)) and c.margins
    }
    if not margins:
        return None
    names = list(margins)
    traces = [
        trace
        for place, (name, m) in enumerate(margins.items())
        for trace in _margin_box(name, m, place, material.styles[name])
    ]
    medians = "; ".join(f"{name} {m.median:.2f}" for name, m in margins.items())
    return Figure(
        "margins",
        "Confidence in wrong predictions",
        "For each error, the probability of the predicted label minus that of the true label. "
        "Boxes show the middle 50 %, dots the median, whiskers the 5 % and 95 % quantiles. Errors "
        "near 0 are uncertain; a threshold on the confidence can find them for manual review. "
        "Errors near 1 are confident; no threshold finds them.",
        [
            Plot(
                "margin-boxes",
                "Box plot of the probability of the predicted minus the true label for all errors; "
                f"medians: {medians}",
                traces,
                layout(
                    margin={"l": 8, "r": 16, "t": 8, "b": 40},
                    xaxis=axis("probability of the predicted minus the true label", range=[0, 1]),
                    yaxis=category_axis(names),
                ),
                34 * len(names) + 64,
            )
        ],
    )


def _margin_box(name: str, m: Margins, place: int, style: Style) -> list[dict[str, Any]]:
    """Return the box at `place`, and the dot with its tooltip."""
    return [
        {
            "type": "box",
            "orientation": "h",
            "y": [place],
            "q1": [m.q25],
            "median": [m.median],
            "q3": [m.q75],
            "lowerfence": [m.q05],
            "upperfence": [m.q95],
            "width": 0.55,
            "line": {"width": 1.3, "color": colour(style.colour)},
            "fillcolor": colour(style.colour, 0.22),
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [m.median],
            "y": [place],
            "marker": {"size": 6, "color": colour(style.colour)},
            "customdata": [
                f"<b>{text(name, 60)}</b><br>median {m.median:.2f}, half of the errors "
                f"{m.q25:.2f} to {m.q75:.2f}<br>{fmt.count(m.errors)} errors over all seeds"
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
        },
    ]


def reliability(material: Material) -> Figure | None:
    """Return the reliability diagram: accuracy against confidence, one line per method."""
    found = material.errors
    if found is None:
        return None
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"color": colour("muted"), "width": 1, "dash": "dash"},
            "hoverinfo": "skip",
        }
    ]
    for name in _names(material):
        bins = [
            b
            for b in (found.confidence[name].bins if name in found.confidence else [])
            if b.rows >= LEAST_BIN
        ]
        if bins:
            traces.append(_confidence_line(name, bins, material.styles[name]))
    if len(traces) == 1:
        return None
    least = min(x for trace in traces[1:] for x in trace["x"])
    return Figure(
        "reliability",
        "Calibration",
        "Predictions in 15 bins of confidence, the probability of the predicted label: mean "
        "confidence against accuracy. On the dashed line, confidence and accuracy are equal: of "
        "the predictions with a confidence of 0.8, 80 % are correct. Below the line, the model is "
        f"overconfident. Bins with fewer than {LEAST_BIN} predictions are not shown.",
        [
            Plot(
                "reliability-lines",
                "Reliability diagram: accuracy against confidence for each method; the table "
                "below has the calibration errors",
                traces,
                layout(
                    margin={"l": 8, "r": 16, "t": 8, "b": 40},
                    xaxis=axis("confidence", range=[max(least - 0.05, 0), 1.01]),
                    yaxis=axis("accuracy", range=[0, 1.02]),
                ),
                380,
            )
        ],
    )


def _confidence_line(name: str, bins: list[Bin], style: Style) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [b.confidence for b in bins],
        "y": [b.accuracy for b in bins],
        "line": {"color": colour(style.colour), "width": 1.6, "dash": style.dash},
        "marker": {"color": colour(style.colour), "symbol": style.symbol, "size": 7},
        "customdata": [
            f"<b>{text(name, 60)}</b><br>confidence {b.confidence:.2f}, accuracy "
            f"{b.accuracy:.2f}, {fmt.count(b.rows)} predictions"
            for b in bins
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _names(material: Material) -> list[str]:
    known = material.errors.labels if material.errors else {}
    return [row["name"] for row in material.measured if row["name"] in known]
