"""`tuneoff evaluate`: scores of trained runs on newly labelled rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tuneoff.cli.options import options_of


@options_of(
    "data.text",
    "data.text_pair",
    "data.label",
    "data.weight",
    "data.group",
    "data.header",
    "train.device",
)
def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs or exports, such as studies/NAME/runs/ID.", metavar="RUN..."
        ),
    ],
    file: Annotated[str, typer.Argument(help="Labelled rows: CSV, TSV, JSONL, Parquet, hf:NAME.")],
    out: Annotated[
        Path | None, typer.Option(help="JSON file to write the result to.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    *,
    study: dict[str, Any],
) -> None:
    """Score runs on labelled rows, compare them, and compare the rows with the test rows.

    Shows all scores with 95 % intervals, the difference to the test rows of the study, and whether
    labels, lengths and unknown tokens of the new rows differ from those.
    """
    from tuneoff.display.console import Terminal
    from tuneoff.display.evaluation import render_evaluation
    from tuneoff.display.row_bars import row_bars
    from tuneoff.evaluation.evaluate import evaluate_runs
    from tuneoff.exceptions import BadInput, Issue, printable
    from tuneoff.results.store import check_writable, write_json
    from tuneoff.tables import Columns

    if out is not None:
        if out.is_dir():
            raise BadInput(Issue("is a folder", file=str(out), hint="Name a file with --out."))
        check_writable(out.parent)
    columns = Columns(**{"text": None, "label": None, "header": None, **study.get("data", {})})
    with row_bars() as advance:
        found = evaluate_runs(
            runs,
            file,
            columns,
            device=study.get("train", {}).get("device", "auto"),
            note=lambda text: typer.echo(printable(f"note: {text}"), err=True),
            progress=advance,
        )
    if out is not None:
        write_json(out, found.to_plain())
    if as_json:
        typer.echo(printable(json.dumps(found.to_plain(), indent=1, ensure_ascii=False)))
    else:
        Terminal().print(render_evaluation(found))
