"""`tuneoff check`: what a reader wants to see of a file before training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tuneoff.cli.options import HEADER, HEADER_HELP

if TYPE_CHECKING:
    from tuneoff.config import DataSpec
    from tuneoff.engine.model.source import ModelSource


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
    text: Annotated[
        str | None,
        typer.Option(
            help="Column of the text [text, or the only one that can be].", show_default=False
        ),
    ] = None,
    text_pair: Annotated[
        str | None, typer.Option(help="Column of the second text.", show_default=False)
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Column of the label [label, or the only one that can be].", show_default=False
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column that keeps rows together.", show_default=False)
    ] = None,
    weight: Annotated[
        str | None, typer.Option(help="Column with a weight per row.", show_default=False)
    ] = None,
    header: Annotated[
        bool | None, typer.Option(HEADER, help=HEADER_HELP, show_default=False)
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens kept of a text [model's, up to 512].", show_default=False, min=4),
    ] = None,
) -> None:
    """Look at labelled data: rows, labels, lengths, what is cut off, duplicates, shared rows."""
    from tuneoff.config import DataSpec
    from tuneoff.engine.data.gather import gather
    from tuneoff.engine.data.task import read_alone
    from tuneoff.engine.model.embedded import EMBEDDED_ID
    from tuneoff.engine.model.source import find_model
    from tuneoff.exceptions import IssueList

    data = DataSpec(
        train=file,
        text=text,
        text_pair=text_pair,
        label=label,
        group=group,
        weight=weight,
        header=header,
    )
    data = data if test is None else replace(data, test=test)
    found = IssueList()
    with found.collecting():
        source = find_model(model or EMBEDDED_ID)
        length = source.length(max_length)
    if found.issues:  # those of the data with them
        with found.collecting():
            read_alone(data) if test is None else gather(data)
    found.raise_any()
    if test is None:
        _show_file(data, source, length)
    else:
        _show_task(data, source, length)


def _show_file(data: DataSpec, source: ModelSource, max_length: int) -> None:
    """What stands in one file by itself."""
    from tuneoff.display.console import Terminal
    from tuneoff.display.data import render_file
    from tuneoff.engine.data import check_file

    report = check_file(data, model_path=source.path, max_length=max_length)
    Terminal().print(render_file(report, max_length))


def _show_task(data: DataSpec, source: ModelSource, max_length: int) -> None:
    """What stands in two files, and in both of them; split as a study splits them."""
    from tuneoff.display.console import Terminal
    from tuneoff.display.data import render_task
    from tuneoff.engine.data import inspect

    task = inspect(
        data,
        model=source.name,
        model_path=source.path,
        model_fingerprint=source.fingerprint,
        model_type=source.model_type,
        max_length=max_length,
    )
    Terminal().print(render_task(task))
