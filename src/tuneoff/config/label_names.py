"""One spelling for a label, whichever kind of file or value it comes from."""

from __future__ import annotations

import math
import re
from typing import Any

_BOOLEANS = frozenset({"true", "false"})
_WHOLE = re.compile(r"\+?(-?\d+)\.0*")


def label_name(value: Any) -> str | None:
    """Return a label as a string: `True` and `"True"` are `true`, `1.0` and `"1.0"` are `1`.

    pandas writes whole numbers with a fraction of zeros where a value is missing, and booleans with
    a capital letter. "" stands for a missing label (None, NaN or white space), None for a value
    that cannot be a label. Each value is looked at by itself: no file depends on another one.
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
    if "." in text and (found := _WHOLE.fullmatch(text)):
        return "0" if found[1] == "-0" else found[1]
    return text
