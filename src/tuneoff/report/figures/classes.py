"""Figures of errors by label: confusion matrix, confused pairs, and scores of each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneoff.report.figures.base import Figure, Material, Plot, category_axis, layout, text
from tuneoff.report.palette import colour
from tuneoff.results.record import ClassScores, RunRecord

FEW = 12
"""Maximum number of labels for which the cells show numbers."""
MOST_PAIRS = 15
"""Maximum number of listed pairs."""

Matrix = list[list[float]]


@dataclass(frozen=True)
class Confusion:
    """A pair of true and wrongly predicted label."""

    true: str
    """True label."""
    predicted: str
    """Predicted label."""
    rows: float
    """Number of test rows, mean over the seeds."""
    share: float
    """Fraction of the true label's rows."""


@dataclass(frozen=True)
class ClassLine:
    """Scores of a label, as means over the seeds; NaN if no test row has it."""

    label: str
    """Name of the label."""
    train_rows: int | None
    """Number of training rows; None if unknown."""
    test_rows: int
    """Number of test rows."""
    precision: float
    recall: float
    f1: float


def confusion(material: Material) -> Figure | None:
    """Return the confusion matrices, one method at a time."""
    rows = [row for row in material.measured if mean_matrix(material.finished(row["name"]))]
    if not rows:
        return None
    labels = material.summary["labels"]
    few = len(labels) <= FEW
    matrices = [mean_matrix(material.finished(row["name"])) for row in rows]
    shares = [[_shares(line) for line in matrix] for matrix in matrices]
    # the untrained baseline predicts nearly always one label, and would dominate the colour scale
    scaled = [s for r, s in zip(rows, shares, strict=True) if r["family"] != "baseline"] or shares
    worst = max(
        (v for m in scaled for i, line in enumerate(m) for j, v in enumerate(line) if i != j),
        default=0.0,
    )
    variants = [_traces(labels, m, s, worst, few) for m, s in zip(matrices, shares, strict=True)]
    edge = 46 * len(labels) + 130 if few else 10 * len(labels) + 150
    return Figure(
        "confusion",
        "Confusion matrix",
        "Rows are true labels and columns are predicted labels. The colour shows the percentage of "
        "the true label's test rows, over all seeds. Correct predictions are on the diagonal in "
        "blue. Errors are orange, with the same scale for all methods; a dark cell is a label that "
        "the method often confuses with another one."
        + ("" if few else " The table below lists the most frequent confusions."),
        [
            Plot(
                "confusion-matrix",
                f"Confusion matrix of {len(labels)} labels; the table of the most confused pairs "
                "has the numbers",
                variants[0],
                layout(
                    margin={"l": 8, "r": 8, "t": 8, "b": 8},
                    xaxis=category_axis(
                        labels,
                        18,
                        range=[-0.5, len(labels) - 0.5],
                        title="predicted",
                        tickangle=-90 if not few else (0 if _narrow(labels) else -40),
                        tickfont={"size": 11 if few else 8.5, "color": colour("muted")},
                    ),
                    yaxis=category_axis(
                        labels,
                        title="true",
                        tickfont={"size": 11 if few else 8.5, "color": colour("muted")},
                    ),
                ),
                max(edge, 260),
                min_width=None if len(labels) <= 6 else 60 * len(labels) if few else edge,
                variants=variants,
            )
        ],
    )


def _traces(
    labels: Sequence[str], matrix: Matrix, shares: Matrix, worst: float, few: bool
) -> list[dict[str, Any]]:
    names = [text(label, 40) for label in labels]
    n = len(labels)
    right = [[shares[i][j] if i == j else None for j in range(n)] for i in range(n)]
    wrong = [[shares[i][j] if i != j else None for j in range(n)] for i in range(n)]
    common: dict[str, Any] = {
        "type": "heatmap",
        "showscale": False,
        "xgap": 1 if few else 0.3,
        "ygap": 1 if few else 0.3,
        "hoverongaps": False,
        "zmin": 0,
        # many labels use a common template, because 77 labels have 5,929 cells
        "customdata": _hovers(names, matrix, shares) if few else None,
        "hovertemplate": "%{customdata}<extra></extra>"
        if few
        else "true %{y}<br>predicted %{x}<br>%{z:.1%} of the label's rows<extra></extra>",
    }
    traces = [
        common
        | {"z": right, "zmax": 1, "colorscale": _scale("right0", "right1")}
        | (_numbers(matrix, shares, diagonal=True) if few else {}),
        common
        | {
            "z": wrong,
            # with two labels, even a rare error is the largest one; the minimum keeps it pale
            "zmax": max(worst, 0.2 if few else 0.1),
            # concave scale, so that 5 % of errors are visible next to 50 %
            "colorscale": [
                [0, colour("wrong0")],
                [0.03, colour("wrong1", 0.35)],
                [0.3, colour("wrong1")],
                [1, colour("wrong2")],
            ],
        }
        | (_numbers(matrix, shares, diagonal=False) if few else {}),
    ]
    return [{k: v for k, v in trace.items() if v is not None} for trace in traces]


def _numbers(matrix: Matrix, shares: Matrix, *, diagonal: bool) -> dict[str, Any]:
    """Return the texts of one of the two layers; the other layer's cells must be empty."""
    cells = [
        [
            f"{_count(count)}<br>{shares[i][j]:.0%}" if count and (i == j) is diagonal else ""
            for j, count in enumerate(line)
        ]
        for i, line in enumerate(matrix)
    ]
    return {"text": cells, "texttemplate": "%{text}"}


def _hovers(names: list[str], matrix: Matrix, shares: Matrix) -> list[list[str]]:
    return [
        [
            f"true {names[i]}<br>predicted {names[j]}<br>{matrix[i][j]:.1f} rows per seed, "
            f"{shares[i][j]:.1%} of the label's"
            for j in range(len(names))
        ]
        for i in range(len(names))
    ]


def _scale(low: str, high: str) -> list[list[Any]]:
    return [[0, colour(low)], [1, colour(high)]]


def _narrow(labels: Sequence[str]) -> bool:
    return max(map(len, labels)) <= 8


def _count(rows: float) -> str:
    """Format a mean number of rows as `3.5`, or as `3` if it is an integer."""
    return f"{rows:,.0f}" if rows == round(rows) else f"{rows:,.1f}"


def _shares(line: list[float]) -> list[float]:
    total = sum(line)
    return [round(value / total, 4) if total else 0.0 for value in line]


def mean_matrix(records: Sequence[RunRecord]) -> Matrix:
    """Return the mean confusion matrix of the test rows over the runs; empty without runs."""
    matrices = [r.quality.test.confusion_matrix for r in records if r.quality.test]
    if not matrices:
        return []
    n = len(matrices)
    return [
        [round(sum(cells) / n, 4) for cells in zip(*lines, strict=True)]
        for lines in zip(*matrices, strict=True)
    ]


def confused_pairs(records: Sequence[RunRecord], labels: Sequence[str]) -> list[Confusion]:
    """Return the most frequent confusions of labels, by number of rows."""
    matrix = mean_matrix(records)
    found = [
        Confusion(labels[i], labels[j], value, value / sum(line))
        for i, line in enumerate(matrix)
        for j, value in enumerate(line)
        if i != j and value > 0
    ]
    return sorted(found, key=lambda pair: (-pair.rows, -pair.share))[:MOST_PAIRS]


def class_lines(material: Material, name: str) -> list[ClassLine]:
    """Return precision, recall and F1 of each label, as means over the method's seeds."""
    scores = [r.quality.test.per_class for r in material.finished(name) if r.quality.test]
    train = material.task.splits.get("train") if material.task else None
    lines = []
    for label in material.summary["labels"]:
        of_label: list[ClassScores] = [s[label] for s in scores if label in s]
        if not of_label:
            continue
        # scores of a label without test rows are unknown
        n = len(of_label) if of_label[0].support else math.nan
        lines.append(
            ClassLine(
                label,
                train.label_counts.get(label, 0) if train else None,
                of_label[0].support,
                sum(s.precision for s in of_label) / n,
                sum(s.recall for s in of_label) / n,
                sum(s.f1 for s in of_label) / n,
            )
        )
    return lines


def class_heatmap(material: Material) -> Figure | None:
    """Return the heat map of F1 by label and method, hardest label first."""
    rows = material.measured
    lines = {row["name"]: {c.label: c for c in class_lines(material, row["name"])} for row in rows}
    labels = [
        label
        for label in material.summary["labels"]
        if all(label in found and found[label].test_rows for found in lines.values())
    ]
    if not rows or not labels:
        return None
    contenders = [r["name"] for r in rows if r["family"] != "baseline"] or [r["name"] for r in rows]
    labels.sort(key=lambda label: sum(lines[name][label].f1 for name in contenders))
    few = len(labels) <= 30
    z = [[round(lines[row["name"]][label].f1, 4) for row in rows] for label in labels]
    names = [row["name"] for row in rows]
    each = 30 if few else 12.5
    return Figure(
        "class-heatmap",
        "F1 by label and method",
        "Labels are sorted by difficulty (mean F1 of all methods except the untrained baseline, "
        "lowest first), methods by their score, best first. A row with low values throughout is a "
        "label that no method learns, often because of few rows or an unclear definition. A row "
        "with different values is a label for which the choice of the method matters.",
        [
            Plot(
                "class-f1",
                "Heat map of the F1 score by label and method; the table below has the numbers",
                [
                    {
                        "type": "heatmap",
                        "z": z,
                        "zmin": 0,
                        "zmax": 1,
                        "xgap": 1,
                        "ygap": 1,
                        "colorscale": [[i / 3, colour(f"heat{i}")] for i in range(4)],
                        "texttemplate": "%{z:.2f}",
                        "textfont": {"size": 11 if few else 8.5},
                        "customdata": [[text(n, 60) for n in names] for _ in labels],
                        "text": [[text(label, 60)] * len(names) for label in labels],
                        "hovertemplate": "%{text}<br>%{customdata}: F1 %{z:.3f}<extra></extra>",
                        "showscale": False,
                    }
                ],
                layout(
                    margin={"l": 8, "r": 8, "t": 8, "b": 8},
                    xaxis=category_axis(
                        names, 14, side="top", range=[-0.5, len(names) - 0.5], tickangle=-35
                    ),
                    yaxis=category_axis(
                        labels, 26, tickfont={"size": 11 if few else 8.5, "color": colour("muted")}
                    ),
                ),
                round(each * len(labels)) + 110,
                min_width=None if len(names) <= 4 else 170 + 52 * len(names),
            )
        ],
    )
