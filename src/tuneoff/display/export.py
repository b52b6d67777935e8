"""The result of an export as tables for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff import formatting as fmt
from tuneoff.exporting.result import Export
from tuneoff.results.metrics import QUALITY_METRICS


def render_export(export: Export) -> RenderableType:
    """Return the comparison of an export with its run's model, and the notes."""
    parity = export.parity
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{parity.rows:,} rows ({parity.split})")
    table.add_column("run's model", justify="right")
    table.add_column("export", justify="right")
    table.add_row(
        "changed labels", "", f"{parity.changed} ({fmt.percent(100 * parity.changed_ratio)})"
    )
    if parity.changed_from_record is not None:
        table.add_row("changed labels, compared with the run", "", str(parity.changed_from_record))
    table.add_row("largest difference of a logit (std)", "", f"{parity.largest_difference:.2g}")
    if parity.metric is not None:
        change = parity.metric
        title = QUALITY_METRICS[change.metric].title
        table.add_row(title, fmt.score(change.original, 4), fmt.score(change.exported, 4))
        table.add_row(
            "  change (95 % interval)",
            "",
            f"{change.change:+.4f} ({change.low:+.4f} to {change.high:+.4f})",
        )
    before, after = parity.original_speed, parity.exported_speed
    table.add_row(
        "latency of one text",
        fmt.milliseconds(before.latency_seconds),
        fmt.milliseconds(after.latency_seconds),
    )
    table.add_row(
        "texts per second, in batches",
        f"{before.texts_per_second:.0f}",
        f"{after.texts_per_second:.0f}",
    )
    shapes = len(parity.shapes)
    notes = [f"{shapes} batch shapes agree. Size: {fmt.size(export.bytes)}.", *export.notes]
    return Group(table, Text("\n" + "\n".join(notes)))
