"""Validation of plain values against the types of a dataclass, with messages for users."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from tuneoff.exceptions import BadInput, Issue

T = TypeVar("T")

DATA_MEND = "Set data.train to the file with the labelled rows (on the command line: --train)."


def validated(
    cls: type[T], plain: Mapping[str, Any], *, file: str | None = None, where: str = ""
) -> T:
    """Return plain values as an instance of a dataclass.

    Args:
        cls: The dataclass.
        plain: Values by field.
        file: Study file, for the messages.
        where: Text before each name in messages.

    Raises:
        BadInput: A field is missing, a value has a wrong type, or the class rejects it.
    """
    from pydantic import ValidationError

    try:
        kind: Any = cls
        checked: T = _checker(kind).validate_python(plain)
        return checked
    except ValidationError as error:
        # Pydantic reports one error for each member of a union; they are joined to one issue.
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
            issues.append(Issue(f"{key} must be {expected}, not {shown}", file))
        raise BadInput(issues) from None


def _shown(value: Any) -> str:
    """Return a value for a message: truncated if it is long, or its type if it is large."""
    if value is None or isinstance(value, str | bool | int | float):
        shown = repr(value)
        return shown if len(shown) <= 80 else f"{shown[:80]}…"
    shown = repr(value) if isinstance(value, list | tuple | dict) and len(value) < 10 else ""
    return shown if 0 < len(shown) <= 80 else f"a {type(value).__name__}"


@cache
def _checker(cls: type[Any]) -> Any:
    """Return a cached validator; building it takes longer than using it."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _wanted(kind: str, message: str, context: Mapping[str, Any] | None) -> str:
    """Return the expected type of a value, in the terms of a study file."""
    if kind == "literal_error" and context:
        return str(context["expected"])
    names = {
        "int": "a whole number",
        "float": "a number",
        "string": "a string",
        "bool": "a boolean",
    }
    names |= {
        "tuple": "a list",
        "dict": "a mapping",
        "dataclass": "a mapping of keys to values",
        "list": "a list",
    }
    return names.get(kind.partition("_")[0]) or message.removeprefix("Input should be ")


def _is_tag(part: Any) -> bool:
    """Return whether a part of a location names a member of a union, such as `str`."""
    return isinstance(part, str) and (
        part in ("str", "float", "int", "none", "nullable", "[key]")
        or part.startswith(("literal[", "dict["))
    )
