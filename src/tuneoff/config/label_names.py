"""Names of labels, which do not depend on the type of file or value that they come from."""

from __future__ import annotations

import math
import re
from typing import Any

_BOOLEANS = frozenset({"true", "false"})
_WHOLE = re.compile(r"\+?(-?\d+)\.0*")


def label_name(value: Any) -> str | None:
    """Return a label as a string: `True` and `"True"` are `true`, `1.0` and `"1.0"` are `1`.

    pandas writes the integers of a column with missing values as `1.0`, and booleans with a capital
    letter. The result depends on the value only, so files are independent of each other.

    Args:
        value: A cell of a table.

    Returns:
        The label; "" for a missing label (None, NaN or white space); None for a value that cannot
        be a label.
    """
    if isinstance(value, str):
        return _one_spelling(value) if value.strip() else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return None


def _one_spelling(text: str) -> str:
    if len(text) <= 5 and text.lower() in _BOOLEANS:
        return text.lower()
    if "." in text and (match := _WHOLE.fullmatch(text)):
        return "0" if match[1] == "-0" else match[1]
    return text
