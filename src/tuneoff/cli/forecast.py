"""`tuneoff forecast`: estimate the cost of a study before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tuneoff.cli.compare import asked_content
from tuneoff.cli.options import Methods, Seeds, StudyFile, Workers, study_options


@study_options
def forecast(
    study_file: StudyFile = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study, where compare finds the prepared data and the forecast.",
            show_default=False,
        ),
    ] = None,
    methods: Methods = None,
    seeds: Seeds = None,
    workers: Workers = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as JSON.")] = False,
    study: dict[str, Any],
) -> None:
    """Estimate the time, memory and disk space of each method.

    Each method is tried on a few training steps in a separate process. The options are those of
    compare.
    """
    if seeds is not None:
        study["seeds"] = seeds
    content = asked_content(study_file, methods, study)
    file = str(study_file) if study_file else None
    raise typer.Exit(show_forecast(content, out, file, workers, as_json=as_json))


def show_forecast(
    content: dict[str, Any],
    out: Path | None,
    file: str | None,
    workers: int | str,
    *,
    as_json: bool,
) -> int:
    """Forecast the study in `content`, print the table, and return the exit code.

    Without `out` nothing is left on disk. The exit code is 1 if a method could not be tried.
    """
    import tempfile

    from tuneoff.display.console import Terminal
    from tuneoff.display.forecast import render_forecast
    from tuneoff.display.progress import watcher
    from tuneoff.exceptions import printable
    from tuneoff.forecasting.estimate import forecast_study, to_json
    from tuneoff.results.store import StudyFolder
    from tuneoff.scheduling import local_launcher
    from tuneoff.scheduling.plan import asked_study

    study = asked_study(content, file=file)
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch:
        folder = StudyFolder(out or scratch)
        with local_launcher(workers) as launch, watcher(quiet=as_json) as watch:
            found = forecast_study(study, folder, launcher=launch, watch=watch)
    if as_json:
        typer.echo(printable(to_json(found)))
    else:
        Terminal().print(render_forecast(found))
    return 0 if all(m["status"] == "finished" for m in found["methods"]) else 1
