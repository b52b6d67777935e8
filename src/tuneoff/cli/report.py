"""`tuneoff report`: write a study's report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuneoff.cli.compare import show_paths
from tuneoff.cli.options import Strict


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    strict: Strict = False,
) -> None:
    """Write summary.json and report.html of a study anew, and print its table."""
    from rich.console import Console

    from tuneoff.compare import render_table
    from tuneoff.compare.audit import faults_in
    from tuneoff.report import build_report
    from tuneoff.store import StudyFolder

    folder = StudyFolder.open(study)
    path = build_report(folder)
    console = Console()
    summary = folder.summary() or {}
    console.print(render_table(summary))
    show_paths(console, summary, path)
    if strict and faults_in(summary["audit"]):
        raise typer.Exit(2)
