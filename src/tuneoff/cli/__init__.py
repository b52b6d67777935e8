"""Command line: one file per command. Imports are light, so that `--help` answers at once."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from tuneoff.cli.check import check
from tuneoff.cli.compare import compare
from tuneoff.cli.demo import demo
from tuneoff.cli.doctor import doctor
from tuneoff.cli.evaluate import evaluate
from tuneoff.cli.export import export
from tuneoff.cli.forecast import forecast
from tuneoff.cli.methods import methods
from tuneoff.cli.predict import predict
from tuneoff.cli.report import report
from tuneoff.cli.train import train
from tuneoff.cli.tune import tune
from tuneoff.exceptions import BadInput, TuneoffError, printable


class _Commands(TyperGroup):
    """Print how to resume after an interrupt."""

    def invoke(self, ctx: Any) -> Any:
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, _Terminated) as end:
            command = printable(shlex.join(["tuneoff", *sys.argv[1:]]))
            typer.echo(
                "Interrupted. Finished runs are kept. Rerun the same command to resume:\n"
                f"  {command.replace(' --fresh', '')}",
                err=True,
            )
            raise typer.Exit(143 if isinstance(end, _Terminated) else 130) from None
        finally:
            signal.signal(signal.SIGTERM, before)


class _Terminated(BaseException):
    """SIGTERM was received; it is handled like an interrupt."""


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # runs are saving now
    raise _Terminated


app = typer.Typer(
    name="tuneoff",
    cls=_Commands,
    help="Compare fine-tuning methods for text classification on your own data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: dict[Callable[..., None], str] = {  # with the line in the list of commands
    compare: "Fine-tune with several methods and compare the results.",
    train: "Fine-tune with one method and keep the model.",
    forecast: "Estimate the time, memory and disk space of a study.",
    tune: "Search settings of each method with equal budgets.",
    check: "Summarise labelled data before training on it.",
    methods: "List the methods and their settings.",
    report: "Write a report again, or one on predictions of other tools.",
    evaluate: "Score trained models on newly labelled rows.",
    predict: "Predict the labels of new texts with a trained model.",
    export: "Write a model for other programs, if it predicts the same.",
    doctor: "Show versions, device and speed of this machine.",
    demo: "Compare methods on text that is on every machine.",
}
for command, line in _COMMANDS.items():
    app.command(short_help=line)(command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from tuneoff import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run a command.

    Exit codes: 0 success; 1 some runs failed; 2 invalid input, nothing was run, or with --strict
    the audit found an error; 130 and 143 interrupted after a checkpoint.
    """
    # Hide deprecation warnings of third-party libraries.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        _check_arguments()
        app()
    except BadInput as error:
        _complain(str(error))
        sys.exit(2)
    except TuneoffError as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:
        from tuneoff.results.store import disk_trouble

        _complain(disk_trouble(error) or f"{error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1)


def _check_arguments() -> None:
    """Refuse control characters and bytes that are not UTF-8, which no study file can contain."""
    for argument in sys.argv[1:]:
        if not argument.isascii() and printable(argument) != argument:
            raise BadInput(
                f"the argument {argument!r} contains control characters, or is not UTF-8.",
                hint="Rename the file or folder.",
            )


def _complain(text: str) -> None:
    lines = printable(text).splitlines()
    typer.echo("\n".join([f"tuneoff: {lines[0]}", *lines[1:]]), err=True)
