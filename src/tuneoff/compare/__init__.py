"""What a study's runs say together: the summary and its tables."""

from tuneoff.compare.panel import RunPredictions
from tuneoff.compare.table import COSTS, display_order, summarize
from tuneoff.compare.terminal import render_table, to_frame, to_markdown

__all__ = [
    "COSTS",
    "RunPredictions",
    "display_order",
    "render_table",
    "summarize",
    "to_frame",
    "to_markdown",
]
