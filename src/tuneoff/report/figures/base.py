"""What all figures share: their material, their frame, and texts that Plotly cannot misread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.error_analysis import ErrorAnalysis
from tuneoff.report.palette import Look, colour
from tuneoff.results.record import RunRecord, Status, TaskRecord

History = list[dict[str, Any]]


@dataclass(frozen=True)
class Material:
    """All that a report is made from."""

    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    """The summary's methods, best first."""
    records: dict[str, list[RunRecord]]
    """By the method's name."""
    histories: dict[str, History]
    """By run id."""
    task: TaskRecord | None
    looks: dict[str, Look]
    errors: ErrorAnalysis | None = None
    """None where no run left predictions."""

    def finished(self, name: str) -> list[RunRecord]:
        """The runs of a method that have a result."""
        return [r for r in self.records.get(name, []) if r.status is Status.FINISHED]

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The rows with a result, best first."""
        return [row for row in self.rows if row["quality"]["accuracy"]["mean"] is not None]


@dataclass(frozen=True)
class Plot:
    """One Plotly plot: its traces and layout, and what a reader who cannot see it is told."""

    id: str
    label: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int
    min_width: int | None = None
    """Pixels; on a narrower screen the plot scrolls in its own box."""
    variants: list[list[dict[str, Any]]] = field(default_factory=list)
    """Traces to take the place of `data`, one list for each entry of a selector."""

    def to_plain(self) -> dict[str, Any]:
        """As the page's script reads it."""
        plain = {"data": self.data, "layout": self.layout, "height": self.height}
        return plain | {"variants": self.variants} if self.variants else plain


@dataclass(frozen=True)
class Figure:
    """One or more plots under one title and one caption that says what to see."""

    id: str
    title: str
    caption: str
    plots: Sequence[Plot]
    least_width: int = 340
    """Pixels that each plot needs before another one stands beside it."""


def text(value: str, width: int | None = None) -> str:
    """A text from the data for Plotly, which reads a small part of HTML in labels and hovers, and
    TeX between dollar signs.

    On one line, and cut in the middle to `width` characters.
    """
    value = fmt.shorten(value, width) if width else fmt.one_line(value)
    return (
        value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
    )


def layout(**changes: Any) -> dict[str, Any]:
    """The frame of every plot."""
    frame: dict[str, Any] = {
        "autosize": True,
        "showlegend": False,
        "margin": {"l": 8, "r": 16, "t": 28, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": colour("ink"), "size": 12},
        "hoverlabel": {
            "bgcolor": colour("panel"),
            "bordercolor": colour("rule"),
            "font": {"color": colour("ink"), "size": 12},
            "align": "left",
        },
        "dragmode": False,
    }
    return frame | changes


def axis(title: str | None = None, **changes: Any) -> dict[str, Any]:
    """One axis: thin rules, no frame, room for its labels."""
    base: dict[str, Any] = {
        "gridcolor": colour("rule"),
        "linecolor": colour("rule"),
        "zeroline": False,
        "automargin": True,
        "tickfont": {"color": colour("muted"), "size": 11},
        "fixedrange": True,
    }
    if title:
        base["title"] = {
            "text": title,
            "font": {"color": colour("muted"), "size": 11.5},
            "standoff": 8,
        }
    return base | changes


def category_axis(
    names: Sequence[str], width: int = 22, *, title: str | None = None, **changes: Any
) -> dict[str, Any]:
    """An axis of names at the positions 0, 1, …, from the top.

    Positions instead of Plotly's own categories: labels such as `2020` or `1e3` would become dates
    and numbers, and two long ones cut alike would fall together.
    """
    settings: dict[str, Any] = {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [text(name, width) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "ticks": "",
        "ticklabelstandoff": 4,
    }
    return axis(title, **(settings | changes))


def heading(title: str) -> dict[str, Any]:
    """A plot's own small title, at the left."""
    return {
        "text": title,
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "yref": "container",
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 4, "l": 0},
        "font": {"size": 13, "color": colour("ink"), "weight": 600},
    }


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is known, or None."""
    known = [v for v in values if v is not None and fmt.known(v)]
    return sum(known) / len(known) if known else None
