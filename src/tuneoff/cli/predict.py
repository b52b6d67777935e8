"""`tuneoff predict`: labels and probabilities for new texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run, studies/NAME/runs/ID say.")],
    file: Annotated[str, typer.Argument(help="Texts: CSV, TSV, JSONL, Parquet, or hf:NAME.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("predictions.csv"),
    text: Annotated[
        str | None, typer.Option(help="Column of the text [as in training].", show_default=False)
    ] = None,
    text_pair: Annotated[
        str | None,
        typer.Option(help="Column of the second text [as in training].", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Write the label and the probability of each label for every row of FILE."""
    from rich.progress import Progress

    from tuneoff.compare.console import Terminal
    from tuneoff.data import Columns, read_table
    from tuneoff.errors import BadInput, Fault, printable
    from tuneoff.store import RunFolder, check_writable, write_atomic

    folder = RunFolder.open(run)
    if out.is_dir():
        raise BadInput(Fault("is a folder", file=str(out), mend="Give --out a file to write."))
    check_writable(out.parent)
    trained_on = folder.study_data()
    columns = Columns(
        text=text or (trained_on.text if trained_on else "text"),
        text_pair=text_pair or (trained_on.text_pair if trained_on else None),
        label=None,
    )
    table = read_table(file, columns, "test").frame
    from tuneoff.ship import Predictor  # after the input is known to be good: it loads the model

    predictor = Predictor(folder, device=device)
    pairs = table["text_pair"].tolist() if "text_pair" in table else None
    with Progress(
        console=Terminal(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        job = bar.add_task("predicting", total=len(table))
        found = predictor.predict(
            table["text"].tolist(), pairs, lambda done, rows: bar.update(job, completed=done)
        )
    found["prediction"] = found["prediction"].map(_no_formula)
    found.insert(0, "row", table["row"].to_numpy())
    write_atomic(out, found.to_csv(index=False))
    typer.echo(printable(f"{len(found):,} rows: {out}"))


def _no_formula(label: str) -> str:
    """A label that a spreadsheet would compute, with the apostrophe that makes it a text there."""
    if not label.startswith(("=", "+", "-", "@", "\t", "\r")):
        return label
    try:
        float(label)
    except ValueError:
        return f"'{label}"
    return label
