"""Options shared by several commands.

The options of a study are its settings: flag, type, help and default come from the dataclasses in
`tuneoff.config`. Options with another help text in every command, such as `--json`, are defined
with the command.
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

from tuneoff.config.search import TuneSpec
from tuneoff.config.setting import DescribedField, settings
from tuneoff.config.study import DataSpec, LimitSpec, StudySpec, TrainSpec
from tuneoff.config.values import members_of
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
    typer.Argument(metavar="[STUDY.yaml]", help="Study file. Options override it."),
]
"""Argument of the commands that take a whole study."""
StudyOut = Annotated[Path, typer.Option(help="Folder of the study.")]
"""`--out` of the commands that write a study."""
Methods = Annotated[
    str | None, typer.Option(help="Methods, separated by commas (see: tuneoff methods).")
]
"""`--methods`, as typed."""
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N|N:M",
        help="Number of seeds of each method [3]. N:M: at least N, and up to M while the answer is open.",
        show_default=False,
    ),
]
"""`--seeds`; None: as in the study file."""
Workers = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Number of concurrent runs. auto: one per GPU; on a CPU as many as are fastest.",
    ),
]
"""`--workers` of a study."""
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with code 2 if the audit finds an error.")
]
"""`--strict` of the commands that print an audit."""

_PANELS = {
    "": "Model",
    "data.": "Data",
    "train.": "Training",
    "limits.": "Verdict",
    "tune.": "Tuning",
}
"""Heading of the options of a section of the study file, by the prefix of its keys."""
_SECTIONS = {
    "": StudySpec,
    "data.": DataSpec,
    "train.": TrainSpec,
    "limits.": LimitSpec,
    "tune.": TuneSpec,
}
_VERDICT = ("max_study_seconds", "margin")
"""Settings of a study that only matter where several methods are compared."""


def _options() -> Iterator[_Option]:
    """The option of every setting that has a flag."""
    for prefix, section in _SECTIONS.items():
        for described in settings(section):
            flag, name = described.setting.flag, described.name
            if flag is not None:
                panel = "Verdict" if not prefix and name in _VERDICT else _PANELS[prefix]
                yield _Option(flag, prefix + name, _type(described), help_text(described), panel)


def help_text(described: DescribedField) -> str:
    """The first sentence of a setting's help, with its default."""
    first = re.split(r"(?<=[.])\s+(?=[A-Z])", described.setting.help)[0]
    default = described.default
    return f"{first.removesuffix('.')} [{default}]." if default else first


def _type(described: DescribedField) -> Any:
    """The type of an option's value: what is not a plain number is read as a study file is."""
    if described.setting.unit:
        return str
    members = [m for m in members_of(described.type) if m is not type(None)]
    if members == [list[str]]:
        return list[str]
    return members[0] if len(members) == 1 and members[0] in (int, float, bool) else str


_SHARED = tuple(option for option in _options() if option.panel not in ("Verdict", "Tuning"))
_OF_VERDICT = tuple(option for option in _options() if option.panel == "Verdict")
_OF_SEARCH = tuple(option for option in _options() if option.panel == "Tuning")
_TRIALS = "Number of trials of each method on the validation rows"
_OF_COMMAND = {
    "compare": (
        *_OF_VERDICT,
        _Option(
            "--tune", "tune.trials", int, f"{_TRIALS}, before the study [no search].", "Tuning"
        ),
        *_OF_SEARCH,
    ),
    "tune": (_Option("--trials", "tune.trials", int, f"{_TRIALS} [8].", "Tuning"), *_OF_SEARCH),
}
_OF_COMMAND["forecast"] = _OF_COMMAND["compare"]


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command`, which takes `study: dict`, the options of a study in its place.

    `study` gets the values of the given options, nested as in a study file.
    """
    return _with_options(command, _SHARED + _OF_COMMAND.get(command.__name__, ()))


def options_of(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator like `study_options` for the settings with these keys only."""
    chosen = tuple(option for option in _options() if option.key in keys)
    return lambda command: _with_options(command, chosen)


def _with_options(
    command: Callable[..., None], options: tuple[_Option, ...]
) -> Callable[..., None]:
    def wrapper(**given: Any) -> None:
        own = {name: value for name, value in given.items() if name in parameters}
        values = {o.key: given[_name(o)] for o in options}
        typed = {
            o.key: o.flag.partition("/")[0] for o in options if values[o.key] not in (None, [])
        }
        with _as_typed(typed):
            command(**own, study=nested(values))

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
    """Replace keys of the study file in issues by the options that were typed.

    Args:
        flags: Flag of each given option, by key.
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
    """Return `--epochs must be …` for `study.yaml: train.epochs must be …`."""
    found = re.match(r"([a-z_]+(?:\.[a-z_]+)?)(?= (must|should|bounds|is) )", issue.message)
    flag = flags.get(found[0]) if found else None
    if not found or not flag:
        return issue
    return replace(issue, message=f"{flag}{issue.message[found.end() :]}", file=None)


def _name(option: _Option) -> str:
    return "option_" + option.flag.partition("/")[0].strip("-").replace("-", "_")


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"data": {"train": x}}` for `{"data.train": x}`, without None and empty lists."""
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
    """Add the unit to a bare number, which would be seconds in a study file."""
    return f"{text}ms" if isinstance(_number(text), float) else text


def _by_label(options: list[str]) -> dict[str, str]:
    """Return `{"spam": "0.8"}` for `["spam=0.8"]`; a label may contain `=`."""
    from tuneoff.exceptions import BadInput

    found = {}
    for option in options:
        label, mark, least = option.rpartition("=")
        if not mark or not label or not isinstance(_number(least), float):
            text = f"--min-recall {option!r} is not a label and a number."
            raise BadInput(text, hint="Write LABEL=NUMBER, for example spam=0.8.")
        found[label] = least
    return found


_READ: dict[str, Callable[[Any], Any]] = {
    "data.test": _number,
    "data.validation": _number,
    "limits.latency_seconds": _milliseconds,
    "limits.min_recall": _by_label,
}
"""Conversion of the text of an option to a value of a study file, by key."""


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` overridden by `above`; nested mappings are merged."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = over(old, value)
        else:
            merged[key] = value
    return merged
