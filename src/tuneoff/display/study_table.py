"""Table of a study: for a terminal, in Markdown, and as a data frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType  # noqa: TID251  (a type)
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tuneoff import formatting as fmt
from tuneoff.comparison.next_seeds import seeds_line
from tuneoff.comparison.pairwise import pair_of
from tuneoff.comparison.sentences import left_out
from tuneoff.comparison.summary import display_order, mean_of
from tuneoff.display.audit import audit_lines
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.summary import Answer, MethodSummary, Summary, half_width
from tuneoff.tuning.outcomes import budget_text

if TYPE_CHECKING:
    import pandas as pd

BOUNDLESS = 1000
"""Width that is enough for any table, in columns."""
NAME = 12
"""Minimum width of a method's name before it is wrapped, in columns."""


def status_word(status: str | None) -> str:
    """Return the status of a run as text; None means that it has not been run."""
    return "not run" if status is None else status.replace("_", " ")


def render_table(summary: Summary) -> RenderableType:
    """Return recommendation, table and audit of a summary; they fit 80 columns and more.

    Args:
        summary: Content of `summary.json`.
    """
    return _StudyTable(summary)


@dataclass(frozen=True)
class _Column:
    """A column with its headings and cells, for a narrow and a wide terminal."""

    narrow: str
    wide: str
    cell: Callable[[MethodSummary, bool], str]


class _StudyTable:
    def __init__(self, summary: Summary) -> None:
        self.summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        def width(table: Table) -> int:
            return Measurement.get(console, options.update(max_width=BOUNDLESS), table).maximum

        longest = max(
            (len(fmt.one_line(row["name"])) for row in self.summary["methods"]), default=0
        )
        folded = max(0, longest - NAME)
        table = _table(self.summary, wide=True)
        if width(table) > options.max_width:
            table = _table(self.summary, wide=False)
        if width(table) - folded > options.max_width:  # the time has the same information
            table = _table(self.summary, wide=False, without="rows/s")
        answer = [Text(sentence) for sentence in verdict(self.summary)]
        if answer:
            answer.append(Text())
        audit = audit_lines(self.summary["audit"])
        yield Group(*answer, table, Text(), *_footer(self.summary), *audit)


def _table(summary: Summary, wide: bool, without: str | None = None) -> Table:
    columns = [c for c in _columns(summary["metric"]) if c.narrow != without]
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0)
    )
    table.add_column("method", overflow="fold", min_width=8)
    for column in columns:
        table.add_column(
            column.wide if wide else column.narrow, justify="right", no_wrap=True, min_width=4
        )
    for place, row in enumerate(display_order(summary)):
        if mean_of(row, "quality", "accuracy") is None:
            # the status is in the macro-F1 column, which is wide enough for the longest one
            cells = [Text(fmt.MISSING, style="dim") for _ in columns]
            cells[1] = Text(status_word(row["status"]), style="red")
            table.add_row(Text(fmt.one_line(row["name"]), style="dim"), *cells)
            continue
        cells = [Text(column.cell(row, wide)) for column in columns]
        name = Text(fmt.one_line(row["name"]) + ("*" if row["failed"] else ""))
        table.add_row(name, *cells, style="" if place else "bold")
    return table


def _columns(metric: str) -> list[_Column]:
    """Return the columns after the method, with the study's metric if it is a third one."""
    quality = [_score("macro_f1", spread=True)]
    if metric in QUALITY_METRICS and metric not in ("accuracy", "macro_f1"):
        quality = [_score("macro_f1", spread=False), _score(metric, spread=True)]
    return [
        _score("accuracy", spread=metric == "accuracy"),
        *quality,
        _Column("trainable", "trainable parameters", _trainable),
        _cost("time", "train time", "train_seconds", lambda v: fmt.seconds(v, gap="")),
        _cost("rows/s", "samples/s", "samples_per_second", fmt.rate),
        _cost("memory", "peak memory", "peak_memory_bytes", fmt.size),
        _cost("disk", "storage", "storage_bytes", fmt.size),
    ]


def _score(key: str, *, spread: bool) -> _Column:
    def cell(row: MethodSummary, wide: bool) -> str:
        stat = row["quality"].get(key)
        text = fmt.score(stat["mean"] if stat else None)
        margin = fmt.spread(half_width(stat))
        if not (spread or wide) or not margin:
            return text
        # at 80 columns the leading zero is left out: ±.006
        return f"{text} {margin}" if wide else f"{text} {margin.replace('±0.', '±.')}"

    metric = QUALITY_METRICS[key]
    return _Column(metric.short_title or metric.title, metric.title, cell)


def _cost(narrow: str, wide: str, key: str, show: Callable[[float | None], str]) -> _Column:
    return _Column(narrow, wide, lambda row, _: show(mean_of(row, "cost", key)))


def _trainable(row: MethodSummary, wide: bool) -> str:
    parameters = row["parameters"]
    if not parameters:
        return fmt.MISSING
    if not parameters["trainable"]:
        return "0"
    share = parameters["trainable_percent"]
    if wide:
        return f"{fmt.count(parameters['trainable'])} {fmt.percent(share):>7}"
    return f"{fmt.count_short(parameters['trainable'])} {_short_share(share):>4}"


def _short_share(share: float) -> str:
    if 0 < share < 0.1:
        return "<.1%"
    return f"{share:.1f}%" if share < 9.95 else f"{share:.0f}%"


def _footer(summary: Summary) -> Iterator[Text]:
    for line in notes(summary):
        yield Text(line, style="dim")
    for row in summary["methods"]:
        for status, runs in Counter(f["status"] for f in row["failed"]).items():
            error = next((f["error"] for f in row["failed"] if f["status"] == status), None)
            # the first line is enough here, the record has the rest
            first = fmt.shorten((error or "").strip().partition("\n")[0], 200)
            yield Text.assemble(
                (f"{fmt.one_line(row['name'])}: ", "bold"),
                (f"{runs} of {len(row['runs'])} runs {status_word(status)}", "red"),
                f" ({first})" if first else "",
            )


def verdict(summary: Summary) -> list[str]:
    """Return the recommendation in a few sentences; empty if nothing was compared."""
    found = summary["recommendation"]
    if found is None:
        return []
    return [fmt.one_line(said) for said in (*found["sentences"], left_out(found)) if said]


def notes(summary: Summary) -> list[str]:
    """Return the lines below the table: numbers of rows and seeds, and the meaning of ±."""
    rows, seeds = summary["rows"], _seeds(summary)
    used = summary.get("seeds")  # missing in summaries of older versions
    least = min(used["of"].values(), default=seeds) if used else seeds
    numbers = f"{least} to {seeds}" if least < seeds else str(seeds)
    over = "1 seed" if seeds == 1 else f"means over {numbers} seeds"
    lines = [f"{fmt.count(rows['test'])} test rows · {len(summary['labels'])} labels · {over}"]
    if used:
        lines.append(seeds_line(used))
    majority = summary["reference"]["majority"]
    if majority:
        lines.append(
            f"Majority label {fmt.shorten(majority['label'], 24)!r}: accuracy"
            f" {fmt.score(majority['accuracy'])}, macro-F1 {fmt.score(majority['macro_f1'])}"
        )
    if summary["tuning"]:
        lines.append(f"Tuned: {budget_text(summary['tuning'])}")
    if seeds > 1:
        lines.append("±: half of the 95 % confidence interval over the seeds")
    else:
        lines.append("One seed: the variance between seeds is unknown")
    methods = summary["methods"]
    if any(row["failed"] and mean_of(row, "quality", "accuracy") is not None for row in methods):
        lines.append("*: finished runs of this method only")
    return lines


def _seeds(summary: Summary) -> int:
    return max((len(set(row["seeds"])) for row in summary["methods"]), default=0)


def to_frame(summary: Summary, *, full: bool = True) -> pd.DataFrame:
    """Return one row per method, the best first, indexed by name; unknown values are NaN.

    Each metric has further columns `_std`, `_low` and `_high` (95 % interval over the seeds).

    Args:
        summary: Content of `summary.json`.
        full: Whether to return all columns. Otherwise they are the study's metric, accuracy,
            macro-F1, the costs, and `compared_with_best`, the comparison with the best method.
    """
    import pandas as pd

    lines = []
    for row in display_order(summary):
        line: dict[str, Any] = {
            "name": row["name"],
            "method": row["method"],
            "family": row["family"],
            "status": row["status"],
            "runs": len(row["runs"]),
            "failed_runs": len(row["failed"]),
        }
        for key in QUALITY_METRICS:
            stat = row["quality"][key]
            line[key] = stat["mean"]
            line |= {f"{key}_std": stat["std"], f"{key}_low": stat["low"]}
            line[f"{key}_high"] = stat["high"]
        counts = row["parameters"]
        line |= {
            "total_parameters": counts["total"] if counts else None,
            "trainable_parameters": counts["trainable"] if counts else None,
            "trainable_percent": counts["trainable_percent"] if counts else None,
        }
        line |= {key: mean_of(row, "cost", key) for key in row["cost"]}
        line["compared_with_best"] = _compared_with_best(summary, row["name"])
        lines.append(line)
    frame = pd.DataFrame(lines).set_index("name") if lines else pd.DataFrame()
    return frame if full or frame.empty else frame[_short_columns(summary["metric"])]


def _short_columns(metric: str) -> list[str]:
    scores = [f"{metric}{part}" for part in ("", "_std", "_low", "_high")]
    scores += [key for key in ("accuracy", "macro_f1") if key != metric]
    costs = ["train_seconds", "peak_memory_bytes", "storage_bytes", "latency_seconds"]
    return ["method", *scores, "trainable_parameters", *costs, "compared_with_best"]


def _compared_with_best(summary: Summary, name: str) -> Answer | Literal["best"] | None:
    found, pairwise = summary["recommendation"], summary["pairwise"]
    best = found["best"] if found else None
    if best is None or name == best:
        return "best" if best else None
    pair = pair_of(pairwise, name, best) if pairwise else None
    return pair["answer"] if pair else None
