"""`tuneoff predict`: labels and probabilities for new texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuneoff.cli.options import options_of

if TYPE_CHECKING:
    import pandas as pd


@options_of("data.header", "train.device")
def predict(
    run: Annotated[
        Path, typer.Argument(help="Folder of a run or export, such as studies/NAME/runs/ID.")
    ],
    file: Annotated[str, typer.Argument(help="Texts: CSV, TSV, JSONL, Parquet, or hf:NAME.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("predictions.csv"),
    text: Annotated[
        str | None,
        typer.Option(
            help="Column of the text [as in training, or the only possible column].",
            show_default=False,
        ),
    ] = None,
    text_pair: Annotated[
        str | None,
        typer.Option(help="Column of the second text [as in training].", show_default=False),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Columns of FILE to copy into the result, separated by commas: id,text.",
            show_default=False,
        ),
    ] = None,
    *,
    study: dict[str, Any],
) -> None:
    """Write the label and the probability of each label for every row of FILE.

    The columns row (from 0) and line (of a text file) identify the rows, as in messages.
    """
    from tuneoff.display.row_bars import row_bars
    from tuneoff.exceptions import BadInput, Issue, printable
    from tuneoff.results.exports import Manifest, is_export
    from tuneoff.results.store import RunFolder, check_writable, write_atomic
    from tuneoff.tables import Columns, choose_columns, read_table

    if out.is_dir():
        raise BadInput(Issue("is a folder", file=str(out), hint="Name a file with --out."))
    check_writable(out.parent)
    exported = is_export(run)
    if exported:
        usual = Columns.named(Manifest.read(run).columns)
    else:
        trained_on = RunFolder.open(run).study_data()
        usual = Columns.of(trained_on) if trained_on else Columns()
    asked = Columns(
        text=text,
        text_pair=text_pair or usual.text_pair,
        label=None,
        kept=_kept_names(keep),
        header=study.get("data", {}).get("header"),
    )
    columns, notes = choose_columns(file, asked, "new", usual=usual)
    table = read_table(file, columns, "new")
    for note in [*notes, *table.warnings]:
        typer.echo(printable(f"note: {note}"), err=True)
    # This loads PyTorch, so it follows the checks of the input.
    from tuneoff.engine.inference import ExportedModel, Predictor

    device = study.get("train", {}).get("device", "auto")
    predictor = ExportedModel(run) if exported else Predictor(RunFolder.open(run), device=device)
    frame = table.frame
    pairs = frame["text_pair"].tolist() if "text_pair" in frame else None
    with row_bars() as advance:
        found = predictor.predict(frame["text"].tolist(), pairs, partial(advance, "predicting"))
    write_atomic(out, _result(frame, found, columns.kept).to_csv(index=False))
    typer.echo(printable(f"{len(found):,} rows: {out}"))


def _kept_names(keep: str | None) -> tuple[str, ...]:
    from tuneoff.exceptions import BadInput

    names = [name.strip() for name in (keep or "").split(",") if name.strip()]
    own = [n for n in names if n in ("row", "line", "prediction") or n.startswith("probability_")]
    if own:
        raise BadInput(
            f"--keep {own[0]!r}: is the name of a column of the result.",
            hint="Rename the column in the file.",
        )
    return tuple(dict.fromkeys(names))


def _result(frame: pd.DataFrame, found: pd.DataFrame, kept: Sequence[str]) -> pd.DataFrame:
    """Return the identifiers of the rows, the kept columns and the predictions."""
    import pandas as pd

    from tuneoff.tables.columns import KEPT

    found["prediction"] = found["prediction"].map(_no_formula)
    places = frame[[name for name in ("row", "line") if name in frame]]
    carried = frame[[KEPT + name for name in kept]].set_axis(list(kept), axis=1)
    return pd.concat([places, carried, found], axis=1)


def _no_formula(label: str) -> str:
    """Prefix a label that a spreadsheet would evaluate as a formula with an apostrophe."""
    if not label.startswith(("=", "+", "-", "@", "\t", "\r")):
        return label
    try:
        float(label)
    except ValueError:
        return f"'{label}"
    return label
