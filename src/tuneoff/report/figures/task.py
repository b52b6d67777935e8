"""Figures of the data: labels and lengths of the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.report.figures.base import Figure, Plot, axis, category_axis, layout, text
from tuneoff.report.palette import colour
from tuneoff.results.record import Quantiles, SplitRecord, TaskRecord

_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
_SPLIT_COLOUR = {"train": "m0", "validation": "m4", "test": "m1"}
_SPLIT_SYMBOL = {"validation": "diamond", "test": "circle"}


def label_distribution(task: TaskRecord) -> Figure | None:
    """Return the chart of the proportion of each label in each split."""
    splits = _splits(task)
    first = splits.get("train") or next(iter(splits.values()), None)
    if first is None:
        return None
    labels = sorted(task.labels, key=lambda label: -first.label_counts.get(label, 0))
    traces = [_share_trace(name, split, labels) for name, split in splits.items()]
    each = 26 if len(labels) <= 30 else 12.5
    return Figure(
        "label-distribution",
        "Label distribution",
        "Bars: percentage of the training rows. Markers: percentage of the validation rows "
        "(diamonds) and test rows (circles). If the markers are at the ends of the bars, the "
        "splits have the same distribution. If a few bars are much longer than the others, the "
        "labels are imbalanced; accuracy then depends mostly on the frequent labels, and macro-F1 "
        "is more informative.",
        [
            Plot(
                "labels",
                f"Chart of the percentage of each of {len(labels)} labels in each split",
                traces,
                layout(
                    margin={"l": 8, "r": 16, "t": 34, "b": 40},
                    showlegend=True,
                    legend=_legend(),
                    xaxis=axis("% of the split's rows", tickformat=".1~%", rangemode="tozero"),
                    yaxis=category_axis(
                        labels,
                        26,
                        tickfont={"size": 11 if each > 20 else 8.5, "color": colour("muted")},
                    ),
                ),
                round(each * len(labels)) + 96,
            )
        ],
    )


def _share_trace(name: str, split: SplitRecord, labels: Sequence[str]) -> dict[str, Any]:
    counts = [split.label_counts.get(label, 0) for label in labels]
    total = sum(counts) or 1
    shares = [round(c / total, 6) for c in counts]
    trace: dict[str, Any] = {
        "name": _SPLITS[name],
        "x": shares,
        "y": list(range(len(labels))),
        "customdata": [
            f"<b>{text(label, 60)}</b><br>{fmt.count(c)} of {fmt.count(total)} {_SPLITS[name]} rows"
            f", {fmt.percent(100 * share)}"
            for label, c, share in zip(labels, counts, shares, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if name == "train":
        return trace | {
            "type": "bar",
            "orientation": "h",
            "width": 0.62,
            "marker": {"color": colour(_SPLIT_COLOUR[name], 0.45)},
        }
    return trace | {
        "type": "scatter",
        "mode": "markers",
        "marker": {
            "color": colour(_SPLIT_COLOUR[name]),
            "symbol": _SPLIT_SYMBOL[name],
            "size": 7,
            "line": {"color": colour("paper"), "width": 1},
        },
    }


def length_histogram(task: TaskRecord) -> Figure | None:
    """Return the histogram of token counts in each split, with the maximum length."""
    splits = {name: split for name, split in _splits(task).items() if split.length_histogram}
    if not splits:
        return None
    train = splits.get("train") or next(iter(splits.values()))
    cut = (
        f"{fmt.count(train.cut_rows)} training rows "
        f"({fmt.percent(100 * train.cut_rows / max(train.rows, 1))}) are longer and are truncated"
        if train.cut_rows
        else "no training row is longer"
    )
    longest = max(pair[0] for split in splits.values() for pair in split.length_histogram)
    near = longest > task.max_length / 4
    return Figure(
        "lengths",
        "Text lengths",
        "Tokens per text with the study's tokenizer, including special tokens, before truncation. "
        f"The maximum length of {fmt.count(task.max_length)} tokens is "
        f"{'the dashed line' if near else 'outside of the plot'}: {cut}. Time and memory increase "
        "with the length.",
        [
            Plot(
                "length-histogram",
                f"Histogram of token counts; maximum length {task.max_length}; {cut}",
                [_histogram_trace(name, split) for name, split in splits.items()],
                layout(
                    margin={"l": 8, "r": 16, "t": 34, "b": 40},
                    showlegend=len(splits) > 1,
                    legend=_legend(),
                    barmode="overlay",
                    bargap=0.04,
                    xaxis=axis("tokens", showgrid=False, rangemode="tozero"),
                    yaxis=axis("% of the split's rows", tickformat=".1~%", nticks=6),
                    # a limit far beyond the longest text would compress the histogram
                    shapes=[_cut_line(task.max_length)] if near else [],
                    annotations=[_cut_note(task.max_length, train)] if near else [],
                ),
                330,
            )
        ],
    )


def _histogram_trace(name: str, split: SplitRecord) -> dict[str, Any]:
    starts = [pair[0] for pair in split.length_histogram]
    width = starts[1] - starts[0] if len(starts) > 1 else 1
    counts = [pair[1] for pair in split.length_histogram]
    total = sum(counts) or 1
    shares = [round(c / total, 6) for c in counts]
    common: dict[str, Any] = {
        "name": _SPLITS[name],
        "customdata": [
            f"{start} to {start + width - 1} tokens: {fmt.count(c)} {_SPLITS[name]} rows"
            for start, c in zip(starts, counts, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if name == "train":
        return common | {
            "type": "bar",
            "x": [start + width / 2 for start in starts],
            "y": shares,
            "marker": {"color": colour(_SPLIT_COLOUR[name], 0.45)},
        }
    return common | {
        "type": "scatter",
        "mode": "lines",
        "x": [start + width / 2 for start in starts],
        "y": shares,
        "line": {
            "color": colour(_SPLIT_COLOUR[name]),
            "width": 1.8,
            "shape": "hvh",
            "dash": "solid" if name == "test" else "dot",
        },
    }


def _cut_line(max_length: int) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": max_length,
        "x1": max_length,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": colour("ink"), "width": 1.2, "dash": "dash"},
    }


def _cut_note(max_length: int, train: SplitRecord) -> dict[str, Any]:
    most = max(pair[0] for pair in train.length_histogram)
    inside = max_length > most / 2
    return {
        "x": max_length,
        "y": 1,
        "yref": "paper",
        "text": f"max length {max_length:,}",
        "showarrow": False,
        "xanchor": "right" if inside else "left",
        "yanchor": "top",
        "xshift": -5 if inside else 5,
        "font": {"size": 11, "color": colour("ink")},
    }


def length_boxes(task: TaskRecord) -> Figure | None:
    """Return box plots of token counts by label, from stored quantiles."""
    found = task.lengths_by_label
    labels = sorted((name for name in task.labels if name in found), key=lambda k: found[k].median)
    if not labels:
        return None
    each = 26 if len(labels) <= 30 else 12.5
    return Figure(
        "lengths-by-label",
        "Text lengths by label",
        "Training rows, label with the shortest texts at the top. Boxes show the middle 50 %, dots "
        "the median, whiskers the range from the shortest text to the 95 % quantile. If labels "
        "differ much in length, a model can partly distinguish them by length alone, and "
        "truncation affects the labels with long texts most.",
        [
            Plot(
                "length-boxes",
                "Box plot of token counts by label; medians: "
                + "; ".join(f"{name} {found[name].median:.0f}" for name in labels[:40]),
                _length_traces({label: found[label] for label in labels}),
                layout(
                    margin={"l": 8, "r": 16, "t": 8, "b": 40},
                    xaxis=axis("tokens", rangemode="tozero"),
                    yaxis=category_axis(
                        labels,
                        26,
                        tickfont={"size": 11 if each > 20 else 8.5, "color": colour("muted")},
                    ),
                ),
                round(each * len(labels)) + 64,
            )
        ],
    )


def _length_traces(found: Mapping[str, Quantiles]) -> list[dict[str, Any]]:
    """Return one box per label at 0, 1, …, and dots at the medians."""
    quantiles, places = list(found.values()), list(range(len(found)))
    boxes = {
        "type": "box",
        "orientation": "h",
        "y": places,
        "q1": [q.q25 for q in quantiles],
        "median": [q.median for q in quantiles],
        "q3": [q.q75 for q in quantiles],
        "lowerfence": [q.least for q in quantiles],
        "upperfence": [q.q95 for q in quantiles],
        "width": 0.55,
        "line": {"width": 1.3, "color": colour("m0")},
        "fillcolor": colour("m0", 0.22),
        "hoverinfo": "skip",
    }
    # the tooltips of boxes cannot be changed, so the dots at the medians have them
    medians = {
        "type": "scatter",
        "mode": "markers",
        "x": [q.median for q in quantiles],
        "y": places,
        "marker": {"size": 6, "color": colour("m0")},
        "customdata": [
            f"<b>{text(label, 60)}</b><br>median {q.median:.0f}, half of the texts {q.q25:.0f} to "
            f"{q.q75:.0f}<br>shortest {q.least}, 95 % up to {q.q95:.0f}, longest {q.most}"
            for label, q in found.items()
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return [boxes, medians]


def _splits(task: TaskRecord) -> dict[str, SplitRecord]:
    return {name: task.splits[name] for name in _SPLITS if name in task.splits}


def _legend() -> dict[str, Any]:
    return {
        "orientation": "h",
        "x": 0,
        "xref": "paper",
        "y": 1,
        "yref": "container",
        "yanchor": "top",
        "font": {"size": 12, "color": colour("ink")},
        "entrywidth": 76,
        "itemclick": False,
        "itemdoubleclick": False,
    }
