"""Plain values against a dataclass's types, refused in the words of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from tuneoff.errors import BadInput, Fault

T = TypeVar("T")

DATA_MEND = "Give at least data.train, the file with the labelled rows (--train)."


def validated(
    cls: type[T], plain: Mapping[str, Any], *, file: str | None = None, where: str = ""
) -> T:
    """`plain` as a `cls`, each value of the type that the dataclass names; `BadInput` otherwise.

    `where` opens the message of each fault.
    """
    from pydantic import ValidationError

    try:
        kind: Any = cls
        checked: T = _checker(kind).validate_python(plain)
        return checked
    except ValidationError as error:
        # A union fails once for each of its members: one fault says what they all would take.
        wanted: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        faults = []
        for e in error.errors():
            key = where + ".".join(str(part) for part in e["loc"] if not _is_tag(part))
            if e["type"] == "missing":
                mend = DATA_MEND if key == "data.train" else None
                faults.append(Fault(f"{key!r} is missing", file=file, mend=mend))
            elif e["type"] == "value_error":  # raised by the class itself
                faults.append(Fault(f"{where}{e['ctx']['error']}", file=file))
            else:
                values[key] = e["input"]
                wanted.setdefault(key, []).append(_wanted(e["type"], e["msg"], e.get("ctx")))
        faults += [
            Fault(f"{key} should be {' or '.join(dict.fromkeys(kinds))}, not {values[key]!r}", file)
            for key, kinds in wanted.items()
        ]
        raise BadInput(faults) from None


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
