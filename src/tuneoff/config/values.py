"""Parsing of settings given as text: `query,key,value` (list), `query=4,value=8` (mapping)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NO_VALUE = ("none", "null", "")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def read_values(cls: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in `plain`, converted to the types of the dataclass `cls` if possible.

    Other values are returned unchanged, and `validated` reports the type that they should have.
    """
    kind: Any = cls
    hints = _hints(kind)
    return {key: read_value(value, hints.get(key, Any)) for key, value in plain.items()}


def read_value(value: Any, hint: Any) -> Any:
    """Return `value` converted to the type `hint` if possible, otherwise unchanged.

    Text is converted to a tuple (`query,key,value`), a mapping (`query=4, value=8`) or None
    (`none`). A number or a list is converted to text if the setting is a text (`layers=[0, 2]`).
    """
    members = members_of(hint)
    kinds = {get_origin(member) or member for member in members}
    if isinstance(value, str):
        return _read_text(value, members, kinds)
    if str in kinds and isinstance(value, list | tuple) and not kinds & {list, tuple}:
        return ",".join(map(str, value))
    if str in kinds and type(value) in (int, float) and not kinds & {int, float}:
        return str(value)
    return value


def _read_text(text: str, members: tuple[Any, ...], kinds: set[Any]) -> Any:
    choices = {x for member in members if get_origin(member) is Literal for x in get_args(member)}
    if text in choices:
        return text
    if NoneType in kinds and text.strip().lower() in _NO_VALUE:
        return None
    if str in kinds:
        return text
    for member in members:
        origin, arguments = get_origin(member), get_args(member)
        if origin in (tuple, list):
            return tuple(read_value(part, arguments[0]) for part in _parts(text))
        if origin is dict and (pairs := _pairs(text)) is not None:
            return {key: _read_scalar(part, arguments[1]) for key, part in pairs.items()}
    return text


def _read_scalar(text: str, hint: Any) -> Any:
    """Return the value of a mapping; one of any type is parsed as YAML."""
    if hint is not Any:
        return read_value(text, hint)
    import yaml

    return yaml.safe_load(text)


def _parts(text: str) -> list[str]:
    """Return the items of a list in text, separated by commas or else by white space.

    Brackets and quotes are removed.
    """
    inner = _without_brackets(text)
    parts = inner.split(",") if "," in inner else inner.split()
    return [part.strip().strip("'\"") for part in parts if part.strip()]


def _pairs(text: str) -> dict[str, str] | None:
    """Return the pairs of `a=1, b=2` or `a: 1, b: 2`; None if a part of `text` is not a pair."""
    pairs = {}
    for part in _parts(text):
        match = re.fullmatch(r"(.+?)\s*[=:]\s*([^=:\s]+)", part)
        if match is None:
            return None
        pairs[match[1].strip("'\"")] = match[2].strip("'\"")
    return pairs


def _without_brackets(text: str) -> str:
    text = text.strip()
    closed = text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[:1]])
    return text[1:-1] if closed else text


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, including nested unions; for another type, the type itself."""
    if get_origin(hint) in (Union, UnionType):
        return tuple(member for part in get_args(hint) for member in members_of(part))
    return (hint,)


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)
