"""`tuneoff demo`: a comparison on data and with a model that are on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuneoff.cli.options import StudyOut

METHODS = ["tfidf", "baseline", "head", "partial", "full", "lora"]


def demo(
    out: StudyOut = Path("studies/demo"),
    seeds: Annotated[int, typer.Option(help="Number of seeds of each method.")] = 2,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Run everything again.")] = False,
) -> None:
    """Compare methods on the docstrings of the Python libraries installed here.

    The task: which library does a docstring come from? The texts are read from disk, the names of
    the libraries are masked, and no module is in both training and test data. Works offline.
    """
    from tuneoff.cli.compare import run_and_show
    from tuneoff.demo import write_docstrings
    from tuneoff.engine.model.embedded import EMBEDDED_ID

    train, test = write_docstrings(out / "docstrings")
    content = {
        "model": EMBEDDED_ID,
        "data": {"train": str(train), "test": str(test), "group": "module"},
        "methods": METHODS,
        "seeds": seeds,
        "train": {"max_length": 64, "batch_size": 32},
    }
    raise typer.Exit(run_and_show(content, out, fresh=fresh))
