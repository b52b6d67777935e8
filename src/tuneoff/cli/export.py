"""`tuneoff export`: the model of a run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as studies/NAME/runs/ID.")],
    format: Annotated[
        str,
        typer.Option(
            help="transformers, transformers-bf16, transformers-fp16, onnx, onnx-int8 or openvino."
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write [exports/RUN-FORMAT].", show_default=False),
    ] = None,
    accept_loss: Annotated[
        str | None,
        typer.Option(
            help="Accepted proportion of changed labels [1% for formats with rounded weights].",
            metavar="PERCENT",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Rows to compare the export on [validation rows of the study].",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(help="License for the model card, such as apache-2.0.", show_default=False),
    ] = None,
) -> None:
    """Write a run's model for other programs, if it predicts the same.

    Adapters are merged. The export is compared with the run's model on the validation rows of the
    study and on batches of many sizes and lengths; it is not written if they disagree.
    """
    from tuneoff.display.console import Terminal
    from tuneoff.display.export import render_export
    from tuneoff.display.row_bars import row_bars
    from tuneoff.exceptions import printable
    from tuneoff.exporting import export_run
    from tuneoff.results.store import RunFolder

    folder = RunFolder.open(run)
    target = out or Path("exports") / f"{folder.path.resolve().name}-{format}"
    with row_bars() as advance:
        found = export_run(
            folder,
            target,
            format=format,
            accept_loss=_ratio(accept_loss),
            data=data,
            license=license,
            note=lambda text: typer.echo(printable(f"note: {text}"), err=True),
            progress=advance,
        )
    Terminal().print(render_export(found))
    typer.echo(printable(f"\nexport: {found.path}"))


def _ratio(given: str | None) -> float | None:
    """Return a proportion that is given as `2%` or `0.02`."""
    from tuneoff.exceptions import BadInput

    if given is None:
        return None
    try:
        value = float(given.removesuffix("%").strip()) / (100 if given.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise BadInput(
            f"--accept-loss {given!r} is not a proportion.", hint="Give a percentage such as 2%."
        )
    return value
