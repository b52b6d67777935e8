"""`tuneoff check`: what a reader wants to see of a file before training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer


def check(
    file: Annotated[str, typer.Argument(help="Labelled rows: CSV, TSV, JSONL, Parquet, hf:NAME.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Whose tokens are counted: hub id or folder [all-MiniLM-L6-v2].",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="A test file, to look across both.", show_default=False)
    ] = None,
    text: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    text_pair: Annotated[
        str | None, typer.Option(help="Column of the second text.", show_default=False)
    ] = None,
    label: Annotated[str, typer.Option(help="Column of the label.")] = "label",
    group: Annotated[
        str | None, typer.Option(help="Column that keeps rows together.", show_default=False)
    ] = None,
    weight: Annotated[
        str | None, typer.Option(help="Column with a weight per row.", show_default=False)
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens kept of a text [model's, up to 512].", show_default=False, min=4),
    ] = None,
) -> None:
    """Look at labelled data: rows, labels, lengths, what is cut off, duplicates, shared rows."""
    from tuneoff.cli.exploration import render_file, render_task
    from tuneoff.compare.console import Terminal
    from tuneoff.data import check_file, inspect
    from tuneoff.data.gather import gather
    from tuneoff.data.task import read_alone
    from tuneoff.errors import FaultList
    from tuneoff.model.embedded import EMBEDDED_ID
    from tuneoff.model.source import find_model
    from tuneoff.spec import DataSpec

    columns: dict[str, Any] = {
        "text": text,
        "text_pair": text_pair,
        "label": label,
        "group": group,
        "weight": weight,
    }
    data = DataSpec(train=file, **columns)
    data = data if test is None else replace(data, test=test)
    found = FaultList()
    with found.collecting():
        source = find_model(model or EMBEDDED_ID)
        length = source.length(max_length)
    if found.faults:  # those of the data with them
        with found.collecting():
            read_alone(data) if test is None else gather(data)
    found.raise_any()
    console = Terminal()
    if test is None:
        report = check_file(data, model_path=source.path, max_length=length)
        console.print(render_file(report, length))
        return
    task = inspect(
        data,
        model=source.name,
        model_path=Path(source.path),
        model_fingerprint=source.fingerprint,
        model_type=source.model_type,
        max_length=length,
    )
    console.print(render_task(task))
