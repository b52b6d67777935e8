"""Plain values against a dataclass's types, refused in the words of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from tuneoff.exceptions import BadInput, Issue

T = TypeVar("T")

DATA_MEND = "Give at least data.train, the file with the labelled rows (--train)."


def validated(
    cls: type[T], plain: Mapping[str, Any], *, file: str | None = None, where: str = ""
) -> T:
    """`plain` as a `cls`, each value of the type that the dataclass names; `BadInput` otherwise.

    `where` opens the message of each issue.
    """
    from pydantic import ValidationError

    try:
        kind: Any = cls
        checked: T = _checker(kind).validate_python(plain)
        return checked
    except ValidationError as error:
        # A union fails once for each of its members: one issue says what they all would take.
        wanted: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        issues = []
        for e in error.errors():
            key = where + ".".join(str(part) for part in e["loc"] if not _is_tag(part))
            if e["type"] == "missing":
                hint = DATA_MEND if key == "data.train" else None
                issues.append(Issue(f"{key!r} is missing", file=file, hint=hint))
            elif e["type"] == "value_error":  # raised by the class itself
                issues.append(Issue(f"{where}{e['ctx']['error']}", file=file))
            else:
                values[key] = e["input"]
                wanted.setdefault(key, []).append(_wanted(e["type"], e["msg"], e.get("ctx")))
        for key, kinds in wanted.items():
            expected, shown = " or ".join(dict.fromkeys(kinds)), _shown(values[key])
            issues.append(Issue(f"{key} should be {expected}, not {shown}", file))
        raise BadInput(issues) from None


def _shown(value: Any) -> str:
    """A value in a message: a short one as it is, of others the beginning or the type alone."""
    if value is None or isinstance(value, str | bool | int | float):
        shown = repr(value)
        return shown if len(shown) <= 80 else f"{shown[:80]}…"
    shown = repr(value) if isinstance(value, list | tuple | dict) and len(value) < 10 else ""
    return shown if 0 < len(shown) <= 80 else f"a {type(value).__name__}"


@cache
def _checker(cls: type[Any]) -> Any:
    """Building one takes longer than what it does."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _wanted(kind: str, message: str, context: Mapping[str, Any] | None) -> str:
    """What a value should have been, in the words of a study file."""
    if kind == "literal_error" and context:
        return str(context["expected"])
    names = {"int": "a whole number", "float": "a number", "string": "a text", "bool": "a bool"}
    names |= {
        "tuple": "a list",
        "dict": "a mapping",
        "dataclass": "a mapping of keys to values",
        "list": "a list",
    }
    return names.get(kind.partition("_")[0]) or message.removeprefix("Input should be ")


def _is_tag(part: Any) -> bool:
    """Whether pydantic put this into a location to name a union's member, as `str` or `float`."""
    return isinstance(part, str) and (
        part in ("str", "float", "int", "none", "nullable", "[key]")
        or part.startswith(("literal[", "dict["))
    )
