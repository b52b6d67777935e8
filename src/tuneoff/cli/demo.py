"""`tuneoff demo`: the main job on data and a model that every machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuneoff.cli.options import StudyOut

METHODS = ["tfidf", "baseline", "head", "partial", "full", "lora"]


def demo(
    out: StudyOut = Path("studies/demo"),
    seeds: Annotated[int, typer.Option(help="How many seeds each method is run with.")] = 2,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Run everything anew.")] = False,
) -> None:
    """Compare methods on the docstrings of the Python libraries installed here.

    Which library does a docstring come from? The texts are read from disk, the libraries' names
    are masked, and no module stands on both sides of the split. Works offline.
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
