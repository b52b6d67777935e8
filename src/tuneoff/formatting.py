"""Formatting of numbers for display. A missing or non-finite value becomes an en dash."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

MISSING = "–"
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")


def known(value: float | None) -> TypeGuard[float]:
    """Return whether `value` is a finite number."""
    return value is not None and math.isfinite(value)


def score(value: float | None, digits: int = 3) -> str:
    """Format a score with fixed digits, such as `0.931`."""
    return f"{value:.{digits}f}" if value is not None and known(value) else MISSING


def spread(half_width: float | None, digits: int = 3) -> str:
    """Format half the width of an interval as `±0.006`; empty if there is no interval."""
    return "" if half_width is None else f"±{half_width:.{digits}f}"


def count(value: float | None) -> str:
    """Format a whole number as `66,955,010`."""
    return f"{round(value):,}" if value is not None and known(value) else MISSING


def count_short(value: float | None) -> str:
    """Format a whole number in at most six characters: `66.9M`, `813k`, `412`."""
    if value is None or not known(value):
        return MISSING
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # From 999.5k on, a number would be rounded to 1000k.
        if abs(value) >= size * 0.9995:
            return f"{_three_digits(value / size)}{unit}"
    return f"{round(value)}"


def percent(value: float | None, *, gap: str = " ") -> str:
    """Format a percentage as `100 %`, `4.67 %` or `0.012 %`.

    Args:
        value: The percentage, from 0 to 100.
        gap: Text between the number and the percent sign.
    """
    if value is None or not known(value):
        return MISSING
    if value == 0 or value >= 99.95:
        return f"{value:.0f}{gap}%"
    if value >= 10:
        return f"{value:.1f}{gap}%"
    digits = 2 if value >= 0.1 else 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}{gap}%"


def seconds(value: float | None, *, gap: str = " ") -> str:
    """Format a duration as `0.42 s`, `8.1 s`, `42 s`, `1m 42s`, `1h 07m` or `2d 03h`.

    Args:
        value: The duration, in seconds.
        gap: Text between the number and the unit, and between two units.
    """
    if value is None or not known(value):
        return MISSING
    if value < 59.5:
        digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
        return f"{value:.{digits}f}{gap}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m{gap}{whole % 60:02d}s"
    minutes = round(value / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60}h{gap}{minutes % 60:02d}m"
    return f"{minutes // 1440}d{gap}{minutes % 1440 // 60:02d}h"


def milliseconds(value: float | None) -> str:
    """Format a duration given in seconds as `0.84 ms`, `12.3 ms` or `1,204 ms`."""
    return MISSING if value is None or not known(value) else f"{rate(1000 * value)} ms"


def size(value: float | None) -> str:
    """Format a number of bytes in decimal units, as `1.57 GB` or `812 MB`."""
    if value is None or not known(value):
        return MISSING
    amount, unit = float(value), 0
    while abs(amount) >= 999.5 and unit < len(_DECIMAL) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} B" if unit == 0 else f"{_three_digits(amount)} {_DECIMAL[unit]}"


def rate(value: float | None) -> str:
    """Format a rate or another number as `1,204`, `45.2` or `0.83`."""
    if value is None or not known(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 99.95 else _three_digits(value)


def setting(value: Any) -> str:
    """Format the value of a setting: `2e-05` as `2e-5`, true as `yes`, a list as `a, b`."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = f"{value:.12g}" if value == 0 or abs(value) >= 0.01 else f"{value:e}"
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if e else text
    if isinstance(value, dict):
        return ", ".join(f"{key}={setting(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, list | tuple | set):
        return ", ".join(setting(item) for item in value) or MISSING
    return str(value)


def one_line(text: str) -> str:
    """Return `text` on one line, with each non-printable character replaced by a space."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters, shortened in the middle."""
    text = one_line(text)
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def difference(value: float | None, unit: str) -> str:
    """Format a signed difference of two scores, with a true minus sign.

    Args:
        value: The difference, in the unit of the metric.
        unit: Unit of the metric. A difference of the unit `share` is given in points of 0.01
            (`+1.2 points`), any other with its unit (`+0.012 nats`).
    """
    if value is None or not known(value):
        return MISSING
    share = unit == "share"
    digits = 1 if share and abs(value) >= 0.0005 else 2 if share else 3
    text = f"{100 * value if share else value:+.{digits}f}"
    text = text.replace("-", "−") if text.strip("+-0.") else "0"
    if not share:
        return f"{text} {unit}"
    return f"{text} points"


def margin(value: float, unit: str) -> str:
    """Format the margin of a study as `1 point` (of 0.01) or `0.02 nats`."""
    if unit != "share":
        return f"{value:g} {unit}"
    return f"{100 * value:g} point{'' if value == 0.01 else 's'}"


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    digits = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
    return f"{value:.{digits}f}"
