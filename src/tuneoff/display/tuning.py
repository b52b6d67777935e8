"""Terminal output of the searches for settings."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff import formatting as fmt
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.summary import Tuning
from tuneoff.tuning.outcomes import budget_text, outcomes, settings_text


def render_tuning(tuning: Tuning) -> RenderableType:
    """Return the table of the searches; it fits 80 columns."""
    metric = QUALITY_METRICS[tuning["metric"]].title
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold", min_width=8)
    for head in ("trials", "default", "best", "time"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("best settings", overflow="fold")
    for found in outcomes(tuning):
        cells = [str(found.trials or fmt.MISSING), fmt.score(found.start), fmt.score(found.best)]
        took = fmt.seconds(found.seconds, gap="")
        name = Text(fmt.one_line(found.name))
        table.add_row(name, *map(Text, (*cells, took, settings_text(found.settings))))
    note = f"{metric} on the validation rows. {budget_text(tuning)} The test rows were not used."
    return Group(table, Text(), Text(note, style="dim"))
