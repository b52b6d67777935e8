"""`tuneoff compare`: run methods x seeds on labelled data, print a table, write a report."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneoff.cli.options import (
    Methods,
    Seeds,
    Strict,
    StudyFile,
    StudyOut,
    Workers,
    over,
    study_options,
)

if TYPE_CHECKING:
    from tuneoff.display.console import Terminal
    from tuneoff.results.summary import Summary


@study_options
def compare(
    study_file: StudyFile = None,
    *,
    out: StudyOut = Path("studies/study"),
    methods: Methods = None,
    seeds: Seeds = None,
    workers: Workers = "auto",
    fresh: Annotated[
        bool,
        typer.Option("--fresh/--resume", help="Repeat all runs, or only run what is missing."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate the cost, like tuneoff forecast.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    strict: Strict = False,
    study: dict[str, Any],
) -> None:
    """Fine-tune with several methods and compare the results.

    Give a model and a labelled file, or a study file that names them. Rerun the same command to
    resume after an interrupt.
    """
    if seeds is not None:
        study["seeds"] = seeds
    content = asked_content(study_file, methods, study)
    if dry_run:
        from tuneoff.cli.forecast import show_forecast

        file = str(study_file) if study_file else None
        raise typer.Exit(show_forecast(content, out, file, workers, as_json=as_json))
    status = run_and_show(
        content,
        out,
        file=str(study_file) if study_file else None,
        workers=workers,
        fresh=fresh,
        as_json=as_json,
        strict=strict,
    )
    raise typer.Exit(status)


def asked_content(
    study_file: Path | None, methods: str | None, study: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of the study file, overridden by `study` and `--methods`."""
    from tuneoff.config import read_study

    if methods is not None:
        study["methods"] = [name.strip() for name in methods.split(",") if name.strip()]
        if not study["methods"]:
            raise typer.BadParameter("--methods is empty (see: tuneoff methods)")
    return over(read_study(study_file) if study_file else {}, study)


def show_paths(console: Terminal, summary: Summary, report: Path) -> None:
    """Print the command that uses the recommended model, and the path of the report."""
    lines = [f"Report: {report}"]
    recommended = summary["recommendation"]
    command = recommended["command"] if recommended else None
    command = command or summary.get("command_to_use")  # missing in summaries of older versions
    if command:
        lines.insert(0, f"To use it: {command}")
    console.print()
    for line in lines:  # not wrapped, so that they can be copied
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def run_and_show(
    content: dict[str, Any],
    out: Path,
    *,
    file: str | None = None,
    workers: int | str = "auto",
    fresh: bool = False,
    as_json: bool = False,
    strict: bool = False,
) -> int:
    """Run the study in `content`, print its table, and return the exit code.

    With `strict` the exit code is 2 if the audit finds an error, even if runs failed.
    """
    from tuneoff.display.audit import errors_in
    from tuneoff.display.console import Terminal
    from tuneoff.display.progress import watcher
    from tuneoff.display.study_table import render_table
    from tuneoff.exceptions import BadInput, printable
    from tuneoff.report import run_and_report
    from tuneoff.results.record import Status
    from tuneoff.results.store import StudyFolder
    from tuneoff.scheduling import local_launcher
    from tuneoff.scheduling.plan import asked_study

    study = asked_study(content, file=file)
    folder = StudyFolder(out)
    before: list[str] = []
    with suppress(BadInput):  # there is no study yet, or it cannot be read
        before = [m.name for m in folder.spec().methods]
    command = shlex.join(["tuneoff", *sys.argv[1:]])
    with local_launcher(workers) as launch, watcher(quiet=as_json) as watch:
        records, report = run_and_report(
            study, folder, launcher=launch, watch=watch, fresh=fresh, command=command
        )
    gone = [name for name in before if name not in {m.name for m in study.methods}]
    summary = folder.summary()
    assert summary is not None
    if as_json:
        typer.echo(printable(json.dumps(summary, indent=1, ensure_ascii=False)))
    else:
        console = Terminal()
        console.print(render_table(summary))
        if gone:
            note = f"note: runs of methods that are not in this study are kept: {', '.join(gone)}"
            console.print(f"\n{note}", markup=False, highlight=False)
        show_paths(console, summary, report)
    if strict and errors_in(summary["audit"]):
        return 2
    return 0 if all(record.status == Status.FINISHED for record in records) else 1
