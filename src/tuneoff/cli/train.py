"""`tuneoff train`: one run with one method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from tuneoff.cli.options import Strict, study_options

if TYPE_CHECKING:
    from tuneoff.display.console import Terminal
    from tuneoff.results.store import RunFolder


@study_options
def train(
    method: Annotated[str, typer.Option(help="Fine-tuning method (see: tuneoff methods).")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Setting of the method, e.g. rank=16 (repeatable)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for initialisation and data order.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Train again even if the run has finished.")
    ] = False,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile", help="Profile some training steps and show the slowest operators."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    strict: Strict = False,
    *,
    study: dict[str, Any],
) -> None:
    """Fine-tune with one method and keep the model."""
    from tuneoff.audit import audit, collect
    from tuneoff.comparison.summary import summarize
    from tuneoff.display.audit import audit_lines, errors_in
    from tuneoff.display.console import Terminal
    from tuneoff.display.progress import watcher
    from tuneoff.display.study_table import render_table
    from tuneoff.exceptions import printable
    from tuneoff.results.record import Status
    from tuneoff.results.store import RunFolder, StudyFolder
    from tuneoff.scheduling import local_launcher
    from tuneoff.scheduling.plan import asked_study
    from tuneoff.scheduling.study import train_one

    entry = {"method": method, **_settings(settings or [])}
    asked = asked_study({**study, "methods": [entry], "seeds": [seed]})
    with local_launcher() as launch, watcher(quiet=as_json) as watch:
        task, record = train_one(
            asked, out, launcher=launch, watch=watch, fresh=fresh, profile=profile
        )
    summary = summarize(asked, task, [record])
    evidence = collect(StudyFolder(out), asked, task, [record])
    summary["audit"] = [finding.to_plain() for finding in audit(evidence)]
    if as_json:
        typer.echo(printable(json.dumps(record.to_plain(), indent=1, ensure_ascii=False)))
    else:
        console = Terminal()
        console.print(render_table(summary))
        console.print(f"\nModel: {out / 'model'}", markup=False, highlight=False, soft_wrap=True)
        if profile:
            _show_profile(console, RunFolder(out))
    if strict and errors_in(summary["audit"]):
        if as_json:  # the record does not contain the audit
            Terminal(stderr=True).print(*audit_lines(summary["audit"]), sep="\n")
        raise typer.Exit(2)
    raise typer.Exit(0 if record.status == Status.FINISHED else 1)


def _show_profile(console: Terminal, folder: RunFolder) -> None:
    """Print the slowest operators and the path of the trace, if steps were profiled."""
    from tuneoff.display.profile import render_operators

    file = folder.profile / "operators.json"
    if file.is_file():
        console.print()
        console.print(render_operators(json.loads(file.read_text(encoding="utf-8"))))
        where = f"Trace: {folder.profile / 'trace.json.gz'}"
        console.print(where, markup=False, highlight=False, soft_wrap=True)


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Return `{"rank": 16}` for `["rank=16"]`; values are read as YAML where they are valid."""
    result = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"--set takes KEY=VALUE, not {pair!r}")
        try:
            result[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            if value.lstrip().startswith(("[", "{")):
                raise typer.BadParameter(f"--set {pair}: the value is not valid YAML") from None
            result[key.strip()] = value  # `query: 4, value: 8` without braces
    return result
