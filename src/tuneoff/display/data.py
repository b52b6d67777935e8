"""Terminal output of data statistics: labels, lengths and histograms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff.results.record import Quantiles, SplitRecord, TaskRecord

if TYPE_CHECKING:
    from tuneoff.engine.data import FileReport

_BAR = 24
_LABELS = 30
"""Maximum number of listed labels; the others are summed up."""


def render_file(report: FileReport, max_length: int) -> RenderableType:
    """Return the statistics of one file."""
    return Group(*_split(report.source, report.split, max_length), *_warnings(report.warnings))


def render_task(task: TaskRecord) -> RenderableType:
    """Return the statistics of all splits, and the overlap between splits."""
    parts: list[RenderableType] = []
    for name, split in task.splits.items():
        parts += [*_split(name, split, task.max_length), Text()]
    for pair, rows in task.shared_rows.items():
        first, second = pair.split("/")
        parts.append(Text(f"{rows:,} rows of {second} have a text that is also in {first}"))
    return Group(*parts, *_warnings(task.warnings))


def _split(name: str, split: SplitRecord, max_length: int) -> Iterable[RenderableType]:
    yield Text(f"{name}: {split.rows:,} rows, {len(split.label_counts)} labels", style="bold")
    yield _labels(split)
    yield Text()
    yield _lengths(split.lengths)
    yield _histogram(split)
    cut = split.cut_rows / split.rows if split.rows else 0.0
    yield Text(
        f"max_length {max_length}: {split.cut_rows:,} rows ({cut:.1%}) are truncated,"
        f" which removes {split.cut_tokens_share:.1%} of the tokens"
    )
    repeats = "row repeats" if split.duplicate_rows == 1 else "rows repeat"
    yield Text(f"duplicates: {split.duplicate_rows:,} {repeats} an earlier text")
    if split.groups is not None:
        yield Text(
            f"groups: {split.groups:,} distinct groups, {split.largest_group:,} rows in the"
            f" largest one, {split.ungrouped_rows:,} rows without a group"
        )


def _labels(split: SplitRecord) -> Table:
    table = _table("label", "rows", "share", "")
    ordered = sorted(split.label_counts.items(), key=lambda item: -item[1])
    most = ordered[0][1] if ordered else 1
    for label, count in ordered[:_LABELS]:
        share = count / max(1, split.rows)
        table.add_row(Text(label), f"{count:,}", f"{share:.1%}", _bar(count, most))
    if len(ordered) > _LABELS:
        rest = ordered[_LABELS:]
        total, share = sum(n for _, n in rest), sum(n for _, n in rest) / max(1, split.rows)
        table.add_row(f"… {len(rest)} more", f"{total:,}", f"{share:.1%}", "")
    return table


def _lengths(lengths: Quantiles) -> Table:
    table = _table("tokens", "min", "25 %", "median", "75 %", "95 %", "99 %", "max", "mean")
    table.add_row(
        "per text",
        *(
            f"{value:,.0f}"
            for value in (
                lengths.least,
                lengths.q25,
                lengths.median,
                lengths.q75,
                lengths.q95,
                lengths.q99,
                lengths.most,
                lengths.mean,
            )
        ),
    )
    return table


def _histogram(split: SplitRecord, bins: int = 12) -> Table:
    table = _table("tokens", "rows", "")
    table.columns[1].justify = "right"
    source = split.length_histogram
    step = -(-len(source) // bins) if source else 1
    merged = [
        (source[i][0], sum(count for _, count in source[i : i + step]))
        for i in range(0, len(source), step)
    ]
    most = max((count for _, count in merged), default=1)
    for start, count in merged:
        table.add_row(f"from {start:,}", f"{count:,}", _bar(count, most))
    return table


def _table(first: str, *rest: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for name in rest:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _bar(count: int, most: int) -> str:
    """Draw a bar of up to 24 columns in eighths of a column."""
    eighths = round(8 * _BAR * count / max(1, most))
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def _warnings(warnings: Iterable[str]) -> Iterable[RenderableType]:
    for warning in warnings:
        yield Text(f"note: {warning}", style="yellow")
