"""tuneoff: which way to fine-tune an encoder, shown on your own data.

    import tuneoff

    study = tuneoff.compare(model="distilbert/distilbert-base-uncased", train="train.csv",
                            test="test.csv", text="review", label="sentiment",
                            methods=["full", "lora"], seeds=3, out="studies/reviews")
    study.table()
    study.best().predict(["What a film!"])

The layers, from the top; each imports those below it alone. The desk, which never imports torch:
`cli`, `api` > `report` > `compare` > `forecast` > `tune` > `study` > `planning` > `launch` >
`methods`. The engine: `ship` > `run` > `train` > `measure` > `model` > `data` > `methods`. The
waist, where they meet: `store` > `record` > `spec` > `errors`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tuneoff.api import Run, Study, compare, forecast, load, train, tune
    from tuneoff.errors import BadInput, TuneoffError

_HOME = {
    "compare": "api",
    "forecast": "api",
    "train": "api",
    "tune": "api",
    "load": "api",
    "Study": "api",
    "Run": "api",
    "BadInput": "errors",
    "TuneoffError": "errors",
}

__all__ = [
    "BadInput",
    "Run",
    "Study",
    "TuneoffError",
    "__version__",
    "compare",
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


class _Package(ModuleType):
    """Keeps `tuneoff.compare`, `tuneoff.train` and so on the functions that they name.

    They share their names with modules, which the import system would bind here in their
    place. `from tuneoff.train import …` is not touched by this.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
