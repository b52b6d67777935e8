"""tuneoff: which way to fine-tune an encoder, shown on your own data.

    import tuneoff

    study = tuneoff.compare(model="distilbert/distilbert-base-uncased", train="train.csv",
                            test="test.csv", text="review", label="sentiment",
                            methods=["full", "lora"], seeds=3, out="studies/reviews")
    study.table()
    study.best().predict(["What a film!"])

A row's way from file to verdict: `tables` reads files, `scheduling` plans the runs and starts a
process for each, `engine` (the only part that imports torch) prepares the data, trains and
measures, `results` keeps the records, `comparison` and `audit` evaluate them, `display` and
`report` present them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tuneoff.api import (
        Exported,
        Run,
        Study,
        compare,
        evaluate,
        export,
        forecast,
        load,
        train,
        tune,
    )
    from tuneoff.exceptions import BadInput, TuneoffError

_HOME = {
    "compare": "api",
    "evaluate": "api",
    "export": "api",
    "Exported": "api",
    "forecast": "api",
    "train": "api",
    "tune": "api",
    "load": "api",
    "Study": "api",
    "Run": "api",
    "BadInput": "exceptions",
    "TuneoffError": "exceptions",
}

__all__ = [
    "BadInput",
    "Exported",
    "Run",
    "Study",
    "TuneoffError",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "forecast",
    "load",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Load public names when they are first used: importing tuneoff costs milliseconds."""
    if name not in _HOME:
        raise AttributeError(f"module 'tuneoff' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"tuneoff.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """The public names, for an editor or a notebook that completes them."""
    return sorted(__all__)
