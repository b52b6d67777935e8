"""HTML report: one self-contained page about a study, written from its folder."""

from tuneoff.report.build import (
    build_report,
    report_predictions,
    run_and_report,
    summary_of,
    truth_of,
)
from tuneoff.report.html import write_report

__all__ = [
    "build_report",
    "report_predictions",
    "run_and_report",
    "summary_of",
    "truth_of",
    "write_report",
]
