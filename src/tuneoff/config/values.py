"""Settings as people type them: `query,key,value` for a list, `query=4,value=8` for a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NO_VALUE = ("none", "null", "")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def read_values(cls: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in `plain`, converted towards the types that the dataclass `cls` names.

    What cannot be converted is returned as it is: `validated` then says what it should have been.
    """
    kind: Any = cls
    hints = _hints(kind)
    return {key: read_value(value, hints.get(key, Any)) for key, value in plain.items()}


def read_value(value: Any, hint: Any) -> Any:
    """`value` in a form that the type `hint` takes, where it is written in another common one.

    Text becomes a tuple (`query,key,value`), a mapping (`query=4, value=8`) or None (`none`); a
    number or a list becomes text where the setting is text (`layers=[0, 2]`).
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
    """A mapping's value; where it may be anything, it is what YAML reads."""
    if hint is not Any:
        return read_value(text, hint)
    import yaml

    return yaml.safe_load(text)


def _parts(text: str) -> list[str]:
    """The items of a list, between commas or else white space, without brackets and quotes."""
    inner = _without_brackets(text)
    parts = inner.split(",") if "," in inner else inner.split()
    return [part.strip().strip("'\"") for part in parts if part.strip()]


def _pairs(text: str) -> dict[str, str] | None:
    """The pairs of `a=1, b=2` or `a: 1, b: 2`; None where a part of `text` is not a pair."""
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
    """The members of a union, nested ones flattened; any other type alone."""
    if get_origin(hint) in (Union, UnionType):
        return tuple(member for part in get_args(hint) for member in members_of(part))
    return (hint,)


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)
