"""`tuneoff tune`: search settings with equally many trials of each method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tuneoff.cli.compare import asked_content
from tuneoff.cli.options import Methods, StudyFile, StudyOut, Workers, study_options

TRIALS = 8
"""Default number of trials of each method."""


@study_options
def tune(
    study_file: StudyFile = None,
    *,
    out: StudyOut = Path("studies/study"),
    methods: Methods = None,
    workers: Workers = "auto",
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh/--resume", help="Repeat all trials, or run only those that are missing."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trials as JSON.")] = False,
    study: dict[str, Any],
) -> None:
    """Search settings of each method with equally many trials on the validation rows.

    The test rows are not read. The settings found are in tuned.yaml in the folder of the study.
    compare --tune with as many trials reuses them and runs the study.
    """
    from tuneoff.config import plain_tune
    from tuneoff.display.console import Terminal
    from tuneoff.display.progress import watcher
    from tuneoff.display.tuning import render_tuning
    from tuneoff.exceptions import printable
    from tuneoff.results.store import StudyFolder
    from tuneoff.scheduling import local_launcher
    from tuneoff.scheduling.plan import asked_study
    from tuneoff.tuning import tune_study

    content = asked_content(study_file, methods, study)
    asked = plain_tune(content.get("tune"))
    if asked is None or isinstance(asked, dict):
        content["tune"] = {"trials": TRIALS, **(asked or {})}
    file = str(study_file) if study_file else None
    checked = asked_study(content, file=file)
    folder = StudyFolder(out)
    with local_launcher(workers) as launch, watcher(quiet=as_json) as watch:
        found = tune_study(checked, folder, launcher=launch, watch=watch, fresh=fresh)
    if as_json:
        typer.echo(printable(json.dumps(found.to_plain(), indent=1, ensure_ascii=False)))
    else:
        console = Terminal()
        console.print(render_tuning(found.to_plain()))
        console.print(f"Tuned: {folder.tuned_file}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if found.complete else 1)
