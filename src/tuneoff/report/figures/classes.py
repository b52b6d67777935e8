"""Where the methods err: label against label, and label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneoff.report.figures.base import Figure, Material, Plot, category_axis, layout, text
from tuneoff.report.palette import colour
from tuneoff.results.record import ClassScores, RunRecord

FEW = 12
"""Labels up to which a cell shows its number."""
MOST_PAIRS = 15

Matrix = list[list[float]]


@dataclass(frozen=True)
class Confusion:
    """Two labels and how often the first was taken for the second."""

    true: str
    predicted: str
    rows: float
    """Test rows, mean over the seeds."""
    share: float
    """Of the true label's rows."""


@dataclass(frozen=True)
class ClassLine:
    """One label's scores, means over the seeds; NaN where no test row has it."""

    label: str
    train_rows: int | None
    test_rows: int
    precision: float
    recall: float
    f1: float


def confusion(material: Material) -> Figure | None:
    """The confusion matrix of each method, one at a time."""
    rows = [row for row in material.measured if mean_matrix(material.finished(row["name"]))]
    if not rows:
        return None
    labels = material.summary["labels"]
    few = len(labels) <= FEW
    matrices = [mean_matrix(material.finished(row["name"])) for row in rows]
    shares = [[_shares(line) for line in matrix] for matrix in matrices]
    # the untuned baseline takes nearly all for one label, and would bleach all others
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
        "Each row is a true label, each column a prediction; the colour is the share of the true "
        "label's test rows, over all seeds. Right answers lie on the diagonal in blue; errors are "
        "orange, on one scale for all methods, so a dark cell off the diagonal is a pair of labels "
        "that the method takes for each other."
        + ("" if few else " The table below names the most frequent of them."),
        [
            Plot(
                "confusion-matrix",
                f"Confusion matrix over {len(labels)} labels; the table of the most confused "
                "pairs says the same in numbers",
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
        # of names instead of one text per cell: 77 labels have 5,929 cells
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
            # of two labels the rarest error is still the worst one, and must not look like it
            "zmax": max(worst, 0.2 if few else 0.1),
            # concave: that one row in twenty goes wrong must be visible beside one in two
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
    """Rows and share in each cell of one of the two layers; Plotly sets text on gaps as well."""
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
    """Rows, a mean over the seeds: `3.5`, and `3` where all agree."""
    return f"{rows:,.0f}" if rows == round(rows) else f"{rows:,.1f}"


def _shares(line: list[float]) -> list[float]:
    total = sum(line)
    return [round(value / total, 4) if total else 0.0 for value in line]


def mean_matrix(records: Sequence[RunRecord]) -> Matrix:
    """The test's confusion matrix, mean over the runs; empty without any."""
    matrices = [r.quality.test.confusion_matrix for r in records if r.quality.test]
    if not matrices:
        return []
    n = len(matrices)
    return [
        [round(sum(cells) / n, 4) for cells in zip(*lines, strict=True)]
        for lines in zip(*matrices, strict=True)
    ]


def confused_pairs(records: Sequence[RunRecord], labels: Sequence[str]) -> list[Confusion]:
    """The pairs of labels that are confused most, by rows."""
    matrix = mean_matrix(records)
    found = [
        Confusion(labels[i], labels[j], value, value / sum(line))
        for i, line in enumerate(matrix)
        for j, value in enumerate(line)
        if i != j and value > 0
    ]
    return sorted(found, key=lambda pair: (-pair.rows, -pair.share))[:MOST_PAIRS]


def class_lines(material: Material, name: str) -> list[ClassLine]:
    """Precision, recall and F1 of each label, means over the method's seeds."""
    scores = [r.quality.test.per_class for r in material.finished(name) if r.quality.test]
    train = material.task.splits.get("train") if material.task else None
    lines = []
    for label in material.summary["labels"]:
        of_label: list[ClassScores] = [s[label] for s in scores if label in s]
        if not of_label:
            continue
        # nothing is known of a label that no test row has
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
    """F1 of each label under each method, hardest label first."""
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
        "F1 of every label under every method",
        "Hardest label first (by the mean over the methods, the untuned baseline left out), best "
        "method at the left. A row that is low throughout is a label that no method learns, "
        "often one with few rows or an unclear definition; a row that changes from left to right "
        "is where the choice of the method matters.",
        [
            Plot(
                "class-f1",
                "Heat map of the F1 score of each label under each method; the table below has "
                "the numbers",
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
