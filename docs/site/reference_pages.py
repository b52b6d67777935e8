"""Reference pages, generated from the source: settings, commands, methods, metrics, findings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, is_typeddict

import typer

from tuneoff.audit import KINDS
from tuneoff.cli import app
from tuneoff.config.search import TuneSpec
from tuneoff.config.setting import settings
from tuneoff.config.study import DataSpec, LimitSpec, StudySpec, TrainSpec
from tuneoff.error_analysis.ambiguity import AmbiguityLevel, MethodAmbiguity
from tuneoff.error_analysis.analysis import ErrorAnalysis
from tuneoff.error_analysis.confidence import Calibration, Margins, Scaling
from tuneoff.error_analysis.labels import LabelErrors
from tuneoff.error_analysis.overlap import Disagreement, ErrorOverlap, Overlap
from tuneoff.error_analysis.slices import Slice
from tuneoff.error_analysis.words import FrequentWord, MethodWords, SuspectWord, WordAcross
from tuneoff.methods import method, methods
from tuneoff.results import record, summary
from tuneoff.results.metrics import QUALITY_METRICS

SECTIONS = {
    "": StudySpec,
    "data": DataSpec,
    "train": TrainSpec,
    "limits": LimitSpec,
    "tune": TuneSpec,
}
ERRORS = (
    ErrorAnalysis,
    LabelErrors,
    MethodWords,
    FrequentWord,
    SuspectWord,
    WordAcross,
    Slice,
    Overlap,
    ErrorOverlap,
    Disagreement,
    Calibration,
    Margins,
    Scaling,
    MethodAmbiguity,
    AmbiguityLevel,
)
"""The parts of the error analysis that `summary.json` has."""
RECORDS = (
    "RunRecord",
    "MethodInfo",
    "DataInfo",
    "Parameters",
    "Quality",
    "Scores",
    "Cost",
    "Checks",
)


def write_pages(folder: Path) -> None:
    """Write all generated pages into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, lines in pages().items():
        content = "\n".join(lines) + "\n"
        file = folder / f"{name}.md"
        if not file.is_file() or file.read_text(encoding="utf-8") != content:
            file.write_text(content, encoding="utf-8")


def pages() -> dict[str, list[str]]:
    """Return the lines of each page, by name."""
    return {
        "study-file": list(_study_file()),
        "cli": list(_cli()),
        "methods": list(_methods()),
        "metrics": list(_metrics()),
        "audit": list(_audit()),
        "record": list(_record()),
        "summary": list(_summary()),
    }


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "|".join([":--"] * len(heads)) + "|"
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _type(kind: Any) -> str:
    text = str(kind).replace("typing.", "").replace("<class '", "").replace("'>", "")
    text = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace(", ", " or "), text)
    return text.replace(" | None", "").replace(" | ", " or ").replace("NoneType", "none")


def _study_file() -> Iterator[str]:
    yield "# Study file\n"
    yield "A study file is a YAML mapping. An unknown key is an error that names the nearest one.\n"
    for section, cls in SECTIONS.items():
        yield f"## {f'Section `{section}`' if section else 'Top level'}\n"
        yield f"{inspect.getdoc(cls) or ''}\n"
        heads = ("key", "type", "default", "description")
        yield from _table(
            heads,
            (
                (
                    " ".join(f"`{x}`" for x in (field.name, field.setting.flag) if x),
                    _type(field.type),
                    f"`{field.default}`" if field.default else "",
                    " ".join(filter(None, (field.setting.help, _range(field.setting.range)))),
                )
                for field in settings(cls)
            ),
        )
    yield "## Seeds\n"
    yield (
        "`seeds` is a number (`3` means 0, 1, 2), a list, or a range: `2:8` gives each method two"
        " seeds, and up to eight to those that may still be the recommendation.\n"
    )
    yield "## Methods\n"
    yield (
        "`methods` is a list of names and mappings. A mapping has the key `method`, optionally a"
        " `name`, settings of the method ([methods](methods.md)), and training settings that"
        " override the section `train`.\n"
    )


def _range(rule: str) -> str:
    return f"It {rule}." if rule else ""


def _cli() -> Iterator[str]:
    yield "# Command line\n"
    yield (
        "Exit codes: 0 success; 1 some runs failed; 2 invalid input, nothing was run, or with"
        " `--strict` the audit found an error; 130 and 143 interrupted after a checkpoint.\n"
    )
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield f"## tuneoff {name}\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        for kind, title in (("argument", "argument"), ("option", "option")):
            found = [p for p in command.params if p.param_type_name == kind and p.name != "help"]
            if found:
                yield from _table((title, "description"), (_parameter(p) for p in found))


def _parameter(parameter: Any) -> tuple[str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`", parameter.help or ""
    flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default if parameter.show_default else None
    shown = f" Default: `{default}`." if default not in (None, False, True, ()) else ""
    return flags, (parameter.help or "") + shown


def _methods() -> Iterator[str]:
    yield "# Methods\n"
    yield "[methods.md](../methods.md) explains the settings, and how to add a method.\n"
    for name in methods():
        found = method(name)
        yield f"## {name}\n"
        yield f"*{found.family}.* Trains {found.summary}.\n"
        rate = found.learning_rate
        facts = [
            ("learning rate", f"{rate:g} at a hidden size of 768" if rate else ""),
            ("paper", found.paper or ""),
            ("limits", found.limits or ""),
        ]
        defaults = [(f"`{key}`", f"`{value}`") for key, value in found.defaults().items()]
        yield from _table(("", ""), ((key, value) for key, value in facts if value))
        if defaults:
            yield from _table(("setting", "default"), defaults)


def _metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield "Row weights count as in scikit-learn's `sample_weight`.\n"
    yield from _table(
        ("key", "title", "better", "definition"),
        (
            (
                f"`{m.key}`",
                m.title,
                "higher" if m.higher_is_better else "lower",
                m.definition,
            )
            for m in QUALITY_METRICS.values()
        ),
    )


def _audit() -> Iterator[str]:
    yield "# Audit codes\n"
    yield "[audit.md](../audit.md) explains what each check looks at.\n"
    yield from _table(
        ("code", "title", "why it matters"),
        ((f"`{kind.code}`", kind.title, kind.why) for kind in KINDS),
    )


def _record() -> Iterator[str]:
    yield "# record.json\n"
    yield f"{inspect.getdoc(record) or ''}\n"
    for name in RECORDS:
        yield from _dataclass(getattr(record, name))


def _summary() -> Iterator[str]:
    yield "# summary.json\n"
    yield f"{inspect.getdoc(summary) or ''}\n"
    yield from _typed_dicts(summary, first="Summary")
    yield "## errors\n"
    yield "The error analysis without texts.\n"
    yield (inspect.getdoc(ErrorAnalysis.compact) or "").partition("\n\n")[2] + "\n"
    for cls in ERRORS:
        yield from _dataclass(cls)


def _dataclass(cls: Any) -> Iterator[str]:
    """Describe a dataclass and its fields."""
    yield f"## {cls.__name__}\n"
    yield f"{inspect.getdoc(cls) or ''}\n"
    described = _attribute_docstrings(cls)
    yield from _table(
        ("field", "type", "description"),
        ((f"`{f.name}`", _type(f.type), described.get(f.name, "")) for f in fields(cls)),
    )


def _typed_dicts(module: Any, first: str) -> Iterator[str]:
    """Describe the types of a module from the whole to the parts: they are defined in reverse."""
    kinds = [cls for cls in vars(module).values() if is_typeddict(cls)]
    own = [cls for cls in kinds if cls.__module__ == module.__name__]
    assert own[-1].__name__ == first
    for cls in reversed(own):
        yield f"## {cls.__name__}\n"
        yield f"{inspect.getdoc(cls) or ''}\n"
        (node,) = ast.parse(inspect.getsource(cls)).body
        names = [ast.unparse(base) for base in node.bases]  # type: ignore[attr-defined]
        bases = [base for base in own if base.__name__ in names]
        yield from _table(
            ("field", "type", "description"),
            (
                (f"`{name}`", _json_type(kind, module), text)
                for part in (cls, *bases)
                for name, kind, text in _described_fields(part)
            ),
        )


def _json_type(kind: str, module: Any) -> str:
    """Return a type with the values of its literals, such as `better or worse`."""
    optional = re.fullmatch(r"NotRequired\[(.*)\]", kind)
    kind = optional[1] if optional else kind
    for name, alias in vars(module).items():
        if get_origin(alias) is Literal:
            kind = re.sub(rf"\b{name}\b", " or ".join(get_args(alias)), kind)
    return _type(kind.replace(" | None", " or None")) + (", may be missing" if optional else "")


def _described_fields(cls: Any) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and description of the fields that a class itself defines."""
    (node,) = ast.parse(inspect.getsource(cls)).body
    described = _attribute_docstrings(cls)
    for field in node.body:  # type: ignore[attr-defined]
        if isinstance(field, ast.AnnAssign):
            name = ast.unparse(field.target)
            yield name, ast.unparse(field.annotation), described[name]


def _attribute_docstrings(cls: Any) -> dict[str, str]:
    """Return the string below each field of a class."""
    (node,) = ast.parse(inspect.getsource(cls).lstrip()).body
    found = {}
    body = node.body  # type: ignore[attr-defined]
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            value = getattr(text.value, "value", None)
            if isinstance(value, str):
                found[field.target.id] = value  # type: ignore[union-attr]
    return found
