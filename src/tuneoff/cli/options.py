"""What several commands take, each said once; an option of a study with its key there.

An option whose help is another in every command, such as `--json`, stands with the command.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tuneoff.exceptions import Issue


@dataclass(frozen=True)
class _Option:
    flag: str
    key: str
    """Dotted key of the study file."""
    type: Any
    help: str
    panel: str


StudyFile = Annotated[
    Path | None,
    typer.Argument(metavar="[STUDY.yaml]", help="A study file; options go over it."),
]
"""Of the commands that take a whole study."""
StudyOut = Annotated[Path, typer.Option(help="Folder of the study.")]
"""`--out` of the commands that write a study."""
Methods = Annotated[
    str | None, typer.Option(help="Methods, separated by commas (see: tuneoff methods).")
]
"""`--methods`, not yet taken apart."""
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N|N:M",
        help="Seeds of each method [3]. N:M: at least N, and up to M where the answer needs them.",
        show_default=False,
    ),
]
"""`--seeds`; None: as the study says."""
Launcher = Annotated[str, typer.Option(help="Where runs execute: local.")]
"""`--launcher`, for the runs of a study."""
Workers = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Runs at the same time. auto: one per GPU; on a CPU the fastest number of runs.",
    ),
]
"""`--workers`, likewise."""
Strict = Annotated[
    bool, typer.Option("--strict", help="End with exit code 2 if the audit finds an error.")
]
"""`--strict` of the commands that show an audit."""

HEADER = "--header/--no-header"
HEADER_HELP = (
    "Whether CSV and TSV files start with the names of their columns; without, columns are numbered"
    " from 1 [looks at each file]."
)
"""Of the commands that read a file of rows."""

_DATA, _TRAIN, _VERDICT, _TUNE = "Data", "Training", "Verdict", "Tuning"
# fmt: off
_OPTIONS = (
    _Option("--model", "model", str, "Hub id or local folder of the pretrained encoder.", "Model"),
    _Option("--train", "data.train", str, "Labelled rows: CSV, TSV, JSONL, Parquet, or hf:NAME.", _DATA),
    _Option("--test", "data.test", str, "Test rows: a file or a fraction [0.2].", _DATA),
    _Option("--validation", "data.validation", str, "Validation rows: a file or a fraction [0.1].", _DATA),
    _Option("--text", "data.text", str, "Column of the text [text, or the only one that can be].", _DATA),
    _Option("--text-pair", "data.text_pair", str, "Column of the second text, for pairs.", _DATA),
    _Option("--label", "data.label", str, "Column of the label [label, or the only one that can be].", _DATA),
    _Option("--weight", "data.weight", str, "Column with a weight per row.", _DATA),
    _Option("--group", "data.group", str, "Column whose values stay on one side of a split.", _DATA),
    _Option(HEADER, "data.header", bool, HEADER_HELP, _DATA),
    _Option("--max-train", "data.max_train", int, "Take this many rows of the training file.", _DATA),
    _Option("--max-test", "data.max_test", int, "Take this many rows of the test file.", _DATA),
    _Option("--epochs", "train.epochs", int, "Passes over the training rows [3].", _TRAIN),
    _Option("--batch-size", "train.batch_size", int, "Examples per optimizer step [16].", _TRAIN),
    _Option("--max-length", "train.max_length", int, "Tokens kept of a text [model's, up to 512].", _TRAIN),
    _Option("--learning-rate", "train.learning_rate", str, "A number, or auto: the method's own.", _TRAIN),
    _Option("--class-weights", "train.class_weights", str, "none or balanced.", _TRAIN),
    _Option("--early-stopping-patience", "train.early_stopping_patience", int,
            "Stop after this many epochs without gain [never].", _TRAIN),
    _Option("--precision", "train.precision", str, "auto, bf16, fp16 or fp32.", _TRAIN),
    _Option("--device", "train.device", str, "auto, cpu, cuda or mps.", _TRAIN),
    _Option("--threads", "train.threads", int, "CPU threads of a run [all cores].", _TRAIN),
    _Option("--metric", "metric", str, "What picks the checkpoint and orders the table [macro_f1].", _TRAIN),
)
_FOR_VERDICT = (
    _Option("--max-study-time", "max_study_seconds", str, "With --seeds N:M: no further seed after 2h.", _VERDICT),
    _Option("--margin", "margin", float, "Difference of the metric that does not matter [0.01].", _VERDICT),
    _Option("--max-memory", "limits.peak_memory_bytes", str, "Recommend no method that takes more: 2GB.", _VERDICT),
    _Option("--max-storage", "limits.storage_bytes", str, "Recommend no method that keeps more beside the base model: 10MB.", _VERDICT),
    _Option("--max-train-seconds", "limits.train_seconds", str, "Recommend no method that trains longer: 600, or 10m.", _VERDICT),
    _Option("--max-latency", "limits.latency_seconds", str, "Recommend no method that takes more milliseconds for a single text: 20.", _VERDICT),
    _Option("--min-recall", "limits.min_recall", list[str],
            "Recommend no method with a lower recall of a label: spam=0.8. Repeatable.", _VERDICT),
)
_FOR_SEARCH = (
    _Option("--tune-over", "tune.over", str, "Settings that the trials vary, separated by commas [learning_rate].", _TUNE),
    _Option("--tune-rows", "tune.rows", int, "Training rows of a trial [all].", _TUNE),
)
_OF_COMMAND = {
    "compare": (*_FOR_VERDICT, _Option("--tune", "tune.trials", int, "First give each method this many trials on validation.", _TUNE), *_FOR_SEARCH),
    "tune": (_Option("--trials", "tune.trials", int, "Trials of each method [8].", _TUNE), *_FOR_SEARCH),
}
_OF_COMMAND["forecast"] = _OF_COMMAND["compare"]  # it takes the same
# fmt: on


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `study: dict`, the shared options in place of that parameter.

    `study` gets the options that were given, nested as a study file nests them.
    """

    def wrapper(**given: Any) -> None:
        own = {name: value for name, value in given.items() if name in parameters}
        values = {o.key: given[_name(o)] for o in options}
        typed = {
            o.key: o.flag.partition("/")[0] for o in options if values[o.key] not in (None, [])
        }
        with _as_typed(typed):
            command(**own, study=nested(values))

    options = _OPTIONS + _OF_COMMAND.get(command.__name__, ())
    signature = inspect.signature(command, eval_str=True)
    parameters = {name: p for name, p in signature.parameters.items() if name != "study"}
    shared = [
        inspect.Parameter(
            _name(option),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                option.type | None,
                typer.Option(
                    option.flag, help=option.help, rich_help_panel=option.panel, show_default=False
                ),
            ],
        )
        for option in options
    ]
    merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters.values()] + shared
    wrapper.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in merged}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


@contextmanager
def _as_typed(flags: Mapping[str, str]) -> Iterator[None]:
    """Let issues name the options that were typed, and not the keys of a study file.

    `flags`: by key, of the options that were given.
    """
    from tuneoff.exceptions import BadInput

    try:
        yield
    except BadInput as error:
        issues = [_with_flag(issue, flags) for issue in error.issues]
        if issues == list(error.issues):
            raise
        raise BadInput(issues) from error


def _with_flag(issue: Issue, flags: Mapping[str, str]) -> Issue:
    """`--epochs must be at least 1` for `study.yaml: train.epochs must be at least 1`."""
    found = re.match(r"([a-z_]+(?:\.[a-z_]+)?)(?= (must|should|bounds|is) )", issue.message)
    flag = flags.get(found[0]) if found else None
    if not found or not flag:
        return issue
    return replace(issue, message=f"{flag}{issue.message[found.end() :]}", file=None)


def _name(option: _Option) -> str:
    return "option_" + option.flag.partition("/")[0].strip("-").replace("-", "_")


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"data.train": x}` to `{"data": {"train": x}}`, without what is None; numbers are numbers."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        if value is None or value == []:
            continue
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _READ[key](value) if key in _READ else value
    return result


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _milliseconds(text: str) -> str:
    """A bare number gets its unit: in a study file it would be seconds."""
    return f"{text}ms" if isinstance(_number(text), float) else text


def _by_label(options: list[str]) -> dict[str, str]:
    """`["spam=0.8"]` to `{"spam": "0.8"}`; a label may hold a `=` itself."""
    from tuneoff.exceptions import BadInput

    found = {}
    for option in options:
        label, mark, least = option.rpartition("=")
        if not mark or not label or not isinstance(_number(least), float):
            text = f"--min-recall {option!r} names no label and number."
            raise BadInput(text, hint="Write LABEL=NUMBER, spam=0.8 say.")
        found[label] = least
    return found


_READ: dict[str, Callable[[Any], Any]] = {
    "data.test": _number,
    "data.validation": _number,
    "limits.latency_seconds": _milliseconds,
    "limits.min_recall": _by_label,
}
"""What the text of an option stands for in a study file."""


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, nested mappings merged."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = over(old, value)
        else:
            merged[key] = value
    return merged
