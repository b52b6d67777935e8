"""`tuneoff report`: write a report on a study, or on predictions of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tuneoff.cli.compare import show_paths
from tuneoff.cli.options import Strict


def report(
    study: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a study. Without one, the report is on --predictions only.",
            show_default=False,
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Predictions of another tool, included as the method NAME: CSV, TSV, JSONL or"
            " Parquet with row, label, and prediction, probability_LABEL or logit_LABEL columns."
            " Repeat a NAME for further seeds.",
            show_default=False,
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Labels of several annotators: a file with the columns row and annotations.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Without a study: folder for summary.json and report.html [report].",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Without a study: metric used to sort the table [macro_f1].", show_default=False
        ),
    ] = None,
    rows: Annotated[
        bool, typer.Option(help="Whether the report shows rows of the data with their texts.")
    ] = True,
    strict: Strict = False,
) -> None:
    """Write summary.json and report.html again, and print the table."""
    from tuneoff.display.audit import errors_in
    from tuneoff.display.console import Terminal
    from tuneoff.display.study_table import render_table
    from tuneoff.external_predictions import parse_sources, read_annotations
    from tuneoff.results.store import StudyFolder

    sources = parse_sources(predictions or [])
    shown: dict[str, Any] = {"list_rows": rows}
    if annotations is not None:
        shown["annotations"] = read_annotations(annotations)
    if study is None:
        path = _of_predictions(sources, out or Path("report"), metric or "macro_f1", shown)
    else:
        if out is not None or metric is not None:
            raise _misplaced("--out" if out is not None else "--metric")
        path = _of_study(study, sources, shown)
    console, summary = Terminal(), StudyFolder(path.parent).summary()
    assert summary is not None
    console.print(render_table(summary))
    show_paths(console, summary, path)
    if strict and errors_in(summary["audit"]):
        raise typer.Exit(2)


def _misplaced(option: str) -> Exception:
    from tuneoff.exceptions import BadInput

    return BadInput(
        f"{option} cannot be combined with a study.",
        hint="The report of a study is in its folder, and its metric is that of the study.",
    )


def _of_study(study: Path, sources: list[tuple[str, Path]], shown: dict[str, Any]) -> Path:
    from tuneoff.external_predictions import read_runs
    from tuneoff.report import build_report, truth_of
    from tuneoff.results.store import StudyFolder

    folder = StudyFolder.open(study)
    if not sources:
        return build_report(folder, **shown)
    taken = [m.name for m in folder.spec().methods]
    _, runs = read_runs(sources, truth_of(folder), taken=taken)
    return build_report(folder, external=runs, **shown)


def _of_predictions(
    sources: list[tuple[str, Path]], out: Path, metric: str, shown: dict[str, Any]
) -> Path:
    import shlex

    from tuneoff.exceptions import BadInput, nearest
    from tuneoff.external_predictions import read_runs
    from tuneoff.report import report_predictions
    from tuneoff.results.metrics import QUALITY_METRICS
    from tuneoff.results.store import StudyFolder, check_writable

    if not sources:
        raise BadInput(
            "There is nothing to report on.",
            hint="Give the folder of a study, or --predictions NAME=FILE, or both.",
        )
    if metric not in QUALITY_METRICS:
        raise BadInput(f"unknown metric {metric!r}.", hint=nearest(metric, QUALITY_METRICS))
    check_writable(out)
    if StudyFolder(out).spec_file.is_file():
        raise BadInput(
            f"{out} is the folder of a study.",
            hint="To report on both, give it as the study: tuneoff report STUDY --predictions …",
        )
    truth, runs = read_runs(sources, metric=metric)
    named = " ".join(f"--predictions {shlex.quote(f'{name}={file}')}" for name, file in sources)
    return report_predictions(out, truth, runs, f"tuneoff report {named}", **shown)
