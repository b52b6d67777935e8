"""Parsing of sizes and durations such as "500 MB" and "1h 30m", and of the limits of a study."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tuneoff.config.label_names import label_name
from tuneoff.config.study import LIMITS
from tuneoff.exceptions import BadInput, Issue

_UNITS: dict[str, dict[str, float]] = {
    "bytes": {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    | {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
    "seconds": {"": 1, "ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400},
}
_EXAMPLES = {
    "bytes": "2GB, 500 MB or a number of bytes",
    "seconds": "10m, 1h 30m, 20ms or a number of seconds",
}


def read_limits(value: Any, file: str | None) -> dict[str, Any]:
    """Read the section `limits` of a study file.

    Args:
        value: The plain value of the section, such as `{"storage_bytes": "10MB"}`.
        file: Study file, for the messages.

    Returns:
        Fields of a `StudySpec`, such as `{"limits": {"storage_bytes": 10e6}, "min_recall": {}}`.

    Raises:
        BadInput: A value is not a quantity of the right unit.
    """
    if not isinstance(value, Mapping):
        raise BadInput(
            Issue(f"limits must be a mapping of costs to numbers, not {value!r}", file=file)
        )
    recalls = value.get("min_recall") or {}
    if not isinstance(recalls, Mapping):
        text = f"limits.min_recall must be a mapping of labels to numbers, not {recalls!r}"
        raise BadInput(Issue(text, file=file, hint="For example, min_recall: {spam: 0.8}."))
    limits = {key: quantity(value[key], LIMITS[key]) for key in value if key != "min_recall"}
    issues = [
        Issue(f"limits.{key} must be {_EXAMPLES[LIMITS[key]]}, not {value[key]!r}", file=file)
        for key, limit in limits.items()
        if limit is None or not 0 <= limit < math.inf
    ]
    if issues:
        raise BadInput(issues)
    return {
        "limits": {key: limit for key, limit in limits.items() if limit is not None},
        # YAML reads some labels as numbers or booleans.
        "min_recall": {
            label_name(label) or str(label): recall for label, recall in recalls.items()
        },
    }


def read_seconds(value: Any, key: str, file: str | None) -> float:
    """Return a duration in seconds: 7200 for `2h`.

    Args:
        value: A number of seconds or a text.
        key: Name of the setting, for the message.
        file: Study file, for the message.

    Raises:
        BadInput: The value is not a positive duration.
    """
    seconds = quantity(value, "seconds")
    if seconds is None or not 0 < seconds < math.inf:
        raise BadInput(Issue(f"{key} must be {_EXAMPLES['seconds']}, not {value!r}", file=file))
    return seconds


def quantity(value: Any, unit: str) -> float | None:
    """Return a size in bytes or a duration in seconds; None if the value is not one.

    Case is ignored. `kB`, `MB` and `GB` are powers of ten; `KiB`, `MiB` and `GiB` are powers of
    two.

    Args:
        value: A number or a text such as `500 MB` or `1h 30m`.
        unit: `bytes` or `seconds`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    parts = re.findall(r"([0-9.]+(?:e[+-]?[0-9]+)?)([a-z]*)", _joined(value))
    if not parts or "".join(map("".join, parts)) != _joined(value):
        return None
    if len(parts) > 1 and (unit == "bytes" or not all(name for _, name in parts)):
        return None
    try:
        return sum(float(number) * _UNITS[unit][name] for number, name in parts)
    except (KeyError, ValueError):
        return None


def _joined(value: float | str) -> str:
    return re.sub(r"[\s_,]", "", str(value).lower())
