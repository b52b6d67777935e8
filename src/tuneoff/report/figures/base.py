"""Common parts of all figures: content of the report, layout, axes and escaping of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.error_analysis import ErrorAnalysis
from tuneoff.report.palette import Style, colour
from tuneoff.results.record import RunRecord, Status, TaskRecord
from tuneoff.results.summary import MethodSummary, Summary

History = list[dict[str, Any]]


@dataclass(frozen=True)
class Material:
    """Data of a report."""

    summary: Summary
    """Content of `summary.json`."""
    rows: list[MethodSummary]
    """The summary's methods, best first."""
    records: dict[str, list[RunRecord]]
    """Records by name of the method."""
    histories: dict[str, History]
    """Rows of `history.jsonl` by run id."""
    task: TaskRecord | None
    """The prepared task, if it is known."""
    styles: dict[str, Style]
    """Colour and marker of each method."""
    errors: ErrorAnalysis | None = None
    """Error analysis; None without predictions."""

    def finished(self, name: str) -> list[RunRecord]:
        """Return the finished runs of a method."""
        return [r for r in self.records.get(name, []) if r.status is Status.FINISHED]

    @property
    def measured(self) -> list[MethodSummary]:
        """The summary's methods with a result, best first."""
        return [row for row in self.rows if row["quality"]["accuracy"]["mean"] is not None]


@dataclass(frozen=True)
class Plot:
    """A Plotly plot."""

    id: str
    """Id of the HTML element."""
    label: str
    """Alternative text for screen readers."""
    data: list[dict[str, Any]]
    """Traces."""
    layout: dict[str, Any]
    """Layout of the plot."""
    height: int
    """Height in pixels."""
    min_width: int | None = None
    """Minimum width in pixels; on narrower screens the plot scrolls."""
    variants: list[list[dict[str, Any]]] = field(default_factory=list)
    """Traces that replace `data`, one list per entry of the page's selector of methods."""

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for the page's script."""
        plain = {"data": self.data, "layout": self.layout, "height": self.height}
        return plain | {"variants": self.variants} if self.variants else plain


@dataclass(frozen=True)
class Figure:
    """One or more plots with a title and a caption."""

    id: str
    """Id of the HTML element."""
    title: str
    """Title of the figure."""
    caption: str
    """Explanation of the figure."""
    plots: Sequence[Plot]
    """Plots of the figure."""
    least_width: int = 340
    """Minimum width of each plot in pixels if plots are placed side by side."""


def text(value: str, width: int | None = None) -> str:
    """Escape a text from the data for Plotly, on one line.

    Plotly interprets some HTML in labels and tooltips, and TeX between dollar signs.

    Args:
        value: The text.
        width: Maximum number of characters; longer texts are shortened in the middle.
    """
    value = fmt.shorten(value, width) if width else fmt.one_line(value)
    return (
        value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
    )


def layout(**changes: Any) -> dict[str, Any]:
    """Return the default layout of a plot with `changes`."""
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
    """Return an axis with thin grid lines and space for its labels, with `changes`."""
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
    """Return an axis of names at the positions 0, 1, …, from the top.

    It does not use Plotly's categories, because labels such as `2020` or `1e3` would become dates
    or numbers, and long labels with the same shortened text would become one category.

    Args:
        names: Names in order.
        width: Maximum number of characters per name.
        title: Title of the axis.
        **changes: Further properties of the axis.
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
    """Return a left-aligned title of a single plot."""
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
    """Return the mean of the known values, or None without any."""
    known = [v for v in values if v is not None and fmt.known(v)]
    return sum(known) / len(known) if known else None
