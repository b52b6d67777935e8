"""`tuneoff check`: a summary of labelled data, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneoff.cli.options import options_of

if TYPE_CHECKING:
    from tuneoff.config import DataSpec
    from tuneoff.engine.model.source import ModelSource


@options_of(
    "data.test",
    "data.text",
    "data.text_pair",
    "data.label",
    "data.group",
    "data.weight",
    "data.header",
    "train.max_length",
)
def check(
    file: Annotated[str, typer.Argument(help="Labelled rows: CSV, TSV, JSONL, Parquet, hf:NAME.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model whose tokenizer is used: hub id or folder [all-MiniLM-L6-v2].",
            show_default=False,
        ),
    ] = None,
    *,
    study: dict[str, Any],
) -> None:
    """Summarise labelled data: rows, labels, lengths, truncation, duplicates, overlap of splits."""
    from tuneoff.config import DataSpec, TrainSpec, replace_train
    from tuneoff.engine.data.gather import gather
    from tuneoff.engine.data.task import read_alone
    from tuneoff.engine.model.embedded import EMBEDDED_ID
    from tuneoff.engine.model.source import find_model
    from tuneoff.exceptions import IssueList

    train = replace_train(TrainSpec(), study.get("train", {}), where="train.")
    data = DataSpec(train=file, **study.get("data", {}))
    alone = "test" not in study.get("data", {})
    found = IssueList()
    with found.collecting():
        source = find_model(model or EMBEDDED_ID)
        length = source.length(train.max_length)
    if found.issues:  # report those of the data, too
        with found.collecting():
            read_alone(data) if alone else gather(data)
    found.raise_any()
    if alone:
        _show_file(data, source, length)
    else:
        _show_task(data, source, length)


def _show_file(data: DataSpec, source: ModelSource, max_length: int) -> None:
    """Print the summary of one file."""
    from tuneoff.display.console import Terminal
    from tuneoff.display.data import render_file
    from tuneoff.engine.data import check_file

    report = check_file(data, model_path=source.path, max_length=max_length)
    Terminal().print(render_file(report, max_length))


def _show_task(data: DataSpec, source: ModelSource, max_length: int) -> None:
    """Print the summary of the splits of a study, and what they have in common."""
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
