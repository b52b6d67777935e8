"""The command line: one file per command. Light to load: `--help` is instant."""

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
from tuneoff.cli.forecast import forecast
from tuneoff.cli.methods import methods
from tuneoff.cli.predict import predict
from tuneoff.cli.report import report
from tuneoff.cli.train import train
from tuneoff.cli.tune import tune
from tuneoff.exceptions import BadInput, TuneoffError, printable


class _Commands(TyperGroup):
    """Says what an interrupt leaves behind; Typer itself would say nothing."""

    def invoke(self, ctx: Any) -> Any:
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, _Terminated) as end:
            command = printable(shlex.join(["tuneoff", *sys.argv[1:]]))
            typer.echo(
                "Interrupted. What is finished is kept, what ran goes on where it stood:\n"
                f"  {command.replace(' --fresh', '')}",
                err=True,
            )
            raise typer.Exit(143 if isinstance(end, _Terminated) else 130) from None
        finally:
            signal.signal(signal.SIGTERM, before)


class _Terminated(BaseException):
    """SIGTERM came: as an interrupt, by whoever ends processes."""


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what runs is saving
    raise _Terminated


app = typer.Typer(
    name="tuneoff",
    cls=_Commands,
    help="Which way to fine-tune an encoder for text classification, shown on your own data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: dict[Callable[..., None], str] = {  # and what each does, in a line of the overview
    compare: "Fine-tune in several ways and compare the results.",
    train: "Fine-tune in one way and keep the model.",
    forecast: "Say what a study will take, before it runs.",
    tune: "Find each method's settings with equal budgets.",
    check: "Look at labelled data before training on it.",
    methods: "List the methods and their settings.",
    report: "Write a report anew, also of predictions made elsewhere.",
    predict: "Label new texts with a trained run.",
    doctor: "Show what a run would use on this machine.",
    demo: "Compare methods on text that every machine has.",
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

    Exit codes: 0 done; 1 some runs failed; 2 bad input, nothing was run,
    or with --strict: the audit found an error.
    """
    # Notes of the libraries below to their developers are no business of who runs a command.
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
    """Bytes that are no UTF-8 come as lone surrogates, which no file of a study can hold."""
    for argument in sys.argv[1:]:
        if not argument.isascii() and printable(argument) != argument:
            raise BadInput(
                f"the argument {argument!r} holds control characters, or bytes that are not UTF-8.",
                hint="Rename the file or folder.",
            )


def _complain(text: str) -> None:
    lines = printable(text).splitlines()
    typer.echo("\n".join([f"tuneoff: {lines[0]}", *lines[1:]]), err=True)
