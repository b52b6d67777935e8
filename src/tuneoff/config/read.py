"""Conversion of plain values (a YAML file, options) to a `StudySpec` and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tuneoff.config.label_names import label_name
from tuneoff.config.quantity import read_limits, read_seconds
from tuneoff.config.ranges import study_issues, train_issues
from tuneoff.config.search import TuneSpec, plain_tune
from tuneoff.config.study import LIMITS, METHOD_TRAIN_KEYS, DataSpec, StudySpec, TrainSpec
from tuneoff.config.types import DATA_MEND, validated
from tuneoff.config.values import read_values
from tuneoff.exceptions import BadInput, Issue, IssueList, nearest

_TRAIN_KEYS = {f.name for f in fields(TrainSpec)}
_STUDY_KEYS = {f.name for f in fields(StudySpec)} - {"min_recall", "more_seeds"}

MOST_SEEDS = 1000
"""Maximum of `seeds`, if it is a number."""

_MODEL_MEND = "Give a hub id or a local folder (on the command line: --model)."


def read_study(path: str | Path) -> dict[str, Any]:
    """Return the plain content of a study file.

    Raises:
        BadInput: The file does not exist, is not valid YAML, or is not a mapping.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise BadInput(
            Issue(
                "there is no such study file",
                file=str(path),
                hint=nearest(path.name, near) if near else None,
            )
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _loader())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        problem = getattr(error, "problem", None) or str(error)
        hint = _not_a_study(path)
        issue = Issue(f"not valid YAML: {problem}", file=str(path), line=line, hint=hint)
        raise BadInput(issue) from None
    if not isinstance(content, dict):
        issue = Issue("a study file must be a mapping of keys to values", file=str(path))
        raise BadInput(replace(issue, hint=_not_a_study(path)))
    return content


def _loader() -> Any:
    """Return a safe YAML loader that reads `2:8` as text, not as a number in base 60 (YAML 1.1)."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Loader for decimal numbers and those with the prefix `0x`, `0o` or `0b`."""

    Loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(r"(?![-+]?[0-9][0-9_]*:)(?:" + pattern.pattern + ")", pattern.flags))
            if tag.rpartition(":")[2] in ("int", "float")
            else (tag, pattern)
            for tag, pattern in resolvers
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


def _not_a_study(path: Path) -> str | None:
    """Return a hint for a file that has the name of a data file."""
    data = {".csv", ".tsv", ".jsonl", ".parquet", ".gz"}
    return f"Pass data files with --train {path}" if path.suffix.lower() in data else None


def parse_study(content: Mapping[str, Any], *, file: str | None = None) -> StudySpec:
    """Return the `StudySpec` of nested plain values, as in a study file.

    Whether the methods and their settings exist is checked by `tuneoff.scheduling.plan.asked_study`
    only.

    Args:
        content: The plain values.
        file: Study file, for the messages.

    Raises:
        BadInput: With one issue for each unknown key, whose hint is the most similar known key, and
            each value of a wrong type or out of range.
    """
    study, issues = draft_study(content, file=file)
    if issues:
        raise BadInput(issues)
    return study


def draft_study(
    content: Mapping[str, Any], *, file: str | None = None
) -> tuple[StudySpec, list[Issue]]:
    """Like `parse_study`, but return the issues, with a study that has defaults for invalid values.

    This allows further checks, so that all issues can be reported together.

    Raises:
        BadInput: No part of the content can be used.
    """
    if not isinstance(content, Mapping):
        raise BadInput(Issue("a study must be a mapping of keys to values", file=file))
    if invalid := sorted({repr(text)[:80] for text in _strings(content) if not _whole(text)}):
        problem = f"{invalid[0]} contains an unpaired surrogate, which is not a valid character"
        raise BadInput(Issue(problem, file=file, hint="Write the complete character."))
    # An empty section, such as `train:` with all its lines commented out, is like no section.
    content = {key: value for key, value in content.items() if value is not None}
    collected = IssueList(_key_issues(content, file))
    plain = {key: _known_part(key, value) for key, value in content.items() if key in _STUDY_KEYS}
    methods, issues = _method_entries(plain.pop("methods", []), file)
    collected.issues += issues
    read: dict[str, Any] = {"methods": methods}
    for key, value in ({"seeds": 3} | plain).items():
        with collected.collecting():
            read |= _READ[key](value, file) if key in _READ else {key: value}
    study, issues = _typed(read, file)
    collected.issues += issues
    collected.issues += study_issues(study, file)
    if train_issues(study.train, ""):  # otherwise each method would report the same issues again
        study = replace(study, train=TrainSpec())
    return study, collected.issues


def _typed(plain: dict[str, Any], file: str | None) -> tuple[StudySpec, list[Issue]]:
    """Return a study with the sections that have the right types, and the issues of the others."""
    valid: dict[str, Any] = {"model": "", "data": {"train": ""}}
    if not valid.keys() - plain.keys():
        with suppress(BadInput):
            return validated(StudySpec, plain, file=file), []
    collected = IssueList()
    for key, value in plain.items():  # separately, because an invalid section may hide issues
        with collected.collecting():
            validated(StudySpec, {**valid, key: value}, file=file)
            valid[key] = value
    return validated(StudySpec, valid, file=file), collected.issues


_SECTIONS: dict[str, set[str]] = {
    "data": {f.name for f in fields(DataSpec)},
    "train": _TRAIN_KEYS,
    "limits": {*LIMITS, "min_recall"},
    "tune": {f.name for f in fields(TuneSpec)},
}


def _key_issues(content: Mapping[str, Any], file: str | None) -> list[Issue]:
    """Return the issues of unknown keys and of missing required keys."""
    issues = _unknown(content, _STUDY_KEYS, "", file)
    for section, known in _SECTIONS.items():
        issues += _unknown(content.get(section), known, f"{section}.", file)
    return issues + [
        Issue(f"{key!r} is missing", file=file, hint=hint)
        for key, hint in (("model", _MODEL_MEND), ("data", DATA_MEND))
        if key not in content
    ]


def _known_part(section: str, value: Any) -> Any:
    if section not in _SECTIONS or not isinstance(value, Mapping):
        return value
    return {key: x for key, x in value.items() if key in _SECTIONS[section]}


def _strings(content: Any) -> Iterator[str]:
    """Yield all strings of nested plain values, including keys."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for pair in content.items():
            yield from _strings(pair)
    elif isinstance(content, list | tuple):
        for item in content:
            yield from _strings(item)


def _whole(text: str) -> bool:
    """Return whether `text` has no unpaired surrogates, so that it can be encoded."""
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


def _unknown(content: Any, known: set[str], prefix: str, file: str | None) -> list[Issue]:
    if not isinstance(content, Mapping):
        return []
    return [
        Issue(f"unknown key {prefix + str(key)!r}", file=file, hint=nearest(str(key), known))
        for key in content
        if key not in known
    ]


def _method_entries(value: Any, file: str | None) -> tuple[list[dict[str, Any]], list[Issue]]:
    """Return the valid entries of `methods`, and the issues of the others."""
    if not isinstance(value, list | tuple):
        issue = Issue(f"methods must be a list of names and mappings, not {value!r}", file=file)
        return [], [issue]
    collected, entries = IssueList(), []
    for entry in value:
        with collected.collecting():
            entries.append(_method_entry(entry, file))
    return entries, collected.issues


def _method_entry(entry: Any, file: str | None) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"method": entry, "name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("method"), str):
        raise BadInput(
            Issue(
                f"a method must be a name or a mapping with the key 'method', not {entry!r}",
                file=file,
            )
        )
    rest = {key: value for key, value in entry.items() if key not in ("method", "name")}
    return {
        "method": entry["method"],
        "name": str(entry.get("name", entry["method"])),
        "config": {key: value for key, value in rest.items() if key not in METHOD_TRAIN_KEYS},
        "train": {key: value for key, value in rest.items() if key in METHOD_TRAIN_KEYS},
    }


def _train_values(train: Any) -> Any:
    """Convert training settings to their types, and labels that YAML read as numbers to names."""
    if not isinstance(train, Mapping):
        return train
    train = read_values(TrainSpec, train)
    weights = train.get("class_weights")
    if not isinstance(weights, Mapping):
        return train
    named = {label_name(label) or str(label): weight for label, weight in weights.items()}
    return {**train, "class_weights": named}


_COLUMNS = ("text", "text_pair", "label", "weight", "group")


def _with_named_columns(data: Any) -> Any:
    """Convert column numbers, as of files without a header, to strings."""
    if not isinstance(data, Mapping):
        return data
    numbers = {
        key: str(data[key])
        for key in _COLUMNS
        if isinstance(data.get(key), int) and not isinstance(data[key], bool)
    }
    return {**data, **numbers}


def _seeds(value: Any, file: str | None) -> dict[str, list[int]]:
    """Return the fields `seeds` and `more_seeds` of a study.

    Args:
        value: A number (3 means 0, 1, 2), a range (`2:8` means two to eight seeds, as many as are
            needed), or a list of seeds.
        file: Study file, for the messages.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*(:\s*\d{1,9}\s*)?", value):
        low, _, high = value.partition(":")
        first, last = int(low), int(high or low)
        if last < first:
            raise BadInput(
                Issue(f"the range of seeds {value.strip()} ends before it starts", file=file)
            )
        if first == 1 < last:  # the variance between seeds decides which methods get another one
            hint = f"Start with two: 2:{max(last, 3)}."
            raise BadInput(
                Issue("a range of seeds must start with at least 2", file=file, hint=hint)
            )
        further = _checked_seeds(last, file)[first:]
        return {"seeds": _checked_seeds(first, file), "more_seeds": further}
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        rule = "seeds must be a number (3), a range (2:8) or a list of seeds"
        raise BadInput(Issue(f"{rule}, not {value!r}", file=file))
    return {"seeds": _checked_seeds(value, file), "more_seeds": []}


def _checked_seeds(value: int | list[Any] | tuple[Any, ...], file: str | None) -> list[int]:
    if isinstance(value, int) and value > MOST_SEEDS:
        raise BadInput(Issue(f"seeds must be at most {MOST_SEEDS}, not {value}", file=file))
    seeds = list(range(value)) if isinstance(value, int) else list(value)
    if not seeds or len(set(map(repr, seeds))) < len(seeds):
        rule = "seeds must be a positive number, or a list of one or more different seeds"
        raise BadInput(Issue(rule, file=file))
    outside = [s for s in seeds if isinstance(s, int) and not 0 <= s < 2**32]
    if outside:  # the range of NumPy's seeds
        raise BadInput(Issue(f"a seed must lie in [0, 2^32), not {outside[0]}", file=file))
    return seeds


_READ: dict[str, Callable[[Any, str | None], dict[str, Any]]] = {
    "data": lambda value, file: {"data": _with_named_columns(value)},
    "seeds": _seeds,
    "max_study_seconds": lambda value, file: {
        "max_study_seconds": read_seconds(value, "max_study_seconds", file)
    },
    "train": lambda value, file: {"train": _train_values(value)},
    "limits": read_limits,
    "tune": lambda value, file: {"tune": plain_tune(value)},
}
"""Functions that convert sections with several notations to fields of a study."""


def replace_train(
    train: TrainSpec, changes: Mapping[str, Any], *, where: str = "", file: str | None = None
) -> TrainSpec:
    """Return `train` with some settings changed.

    Args:
        train: The training settings.
        changes: New values by name.
        where: Text before each name in messages.
        file: Study file, for the messages.

    Raises:
        BadInput: A setting is unknown, or a value has a wrong type or is out of range.
    """
    unknown = _unknown(changes, _TRAIN_KEYS, where, file)
    if unknown:
        raise BadInput(unknown)
    plain = _train_values({**asdict(train), **changes})
    changed = replace(train, **asdict(validated(TrainSpec, plain, file=file, where=where)))
    issues = [Issue(text, file=file) for text in train_issues(changed, where)]
    if issues:
        raise BadInput(issues)
    return changed


def to_plain(study: StudySpec) -> dict[str, Any]:
    """Return the content of a study file with all defaults; `parse_study` is the inverse."""
    plain = asdict(study)
    if recalls := plain.pop("min_recall"):
        plain["limits"] |= {"min_recall": recalls}
    plain["seeds"] = list(study.seeds)
    if further := plain.pop("more_seeds"):
        plain["seeds"] = f"{len(study.seeds)}:{len(study.seeds) + len(further)}"
    if study.tune is not None:
        plain["tune"] |= {
            "over": list(study.tune.over),
            "ranges": {name: list(values) for name, values in study.tune.ranges.items()},
        }
    plain["methods"] = [
        {"method": m.method, "name": m.name, **m.config, **m.train} for m in study.methods
    ]
    return plain
