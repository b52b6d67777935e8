"""Colours and markers. A method has the same ones in all figures, in light and dark mode.

The hues are based on those of Okabe and Ito, which can be distinguished with the common kinds of
colour blindness, and are adjusted to a contrast of at least 3:1 to the background. Reference
methods, which train no encoder, are grey. With more than eight methods, hues are repeated with
other markers and dashes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Colour = dict[str, Any]
"""A colour by name, which the page resolves with its theme: `{"$c": name, "a": opacity}`."""

_NAMES = [
    "paper",
    "panel",
    "ink",
    "muted",
    "rule",
    "accent",
    "warn",
    "m0",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "g0",
    "g1",
    "right0",
    "right1",
    "wrong0",
    "wrong1",
    "wrong2",
    "heat0",
    "heat1",
    "heat2",
    "heat3",
]
LIGHT = dict(
    zip(
        _NAMES,
        [
            "#ffffff",
            "#f6f7f8",
            "#1b2027",
            "#5b6470",
            "#dfe3e7",
            "#1f5fa8",
            "#a8321c",
            "#0f6cb3",
            "#cf4f12",
            "#00855f",
            "#a8508c",
            "#a97600",
            "#2f93c4",
            "#4b3f9e",
            "#8f2248",
            "#767d86",
            "#9aa1a9",
            "#f1f5fa",
            "#1f5fa8",
            "#ffffff",
            "#f2a77f",
            "#a8321c",
            "#f4f1e8",
            "#a8d0c2",
            "#3b8fa3",
            "#1e3f6b",
        ],
        strict=True,
    )
)
DARK = dict(
    zip(
        _NAMES,
        [
            "#14171b",
            "#1c2026",
            "#e7eaee",
            "#9da6b1",
            "#323841",
            "#84b6f0",
            "#f39a83",
            "#5ea9ec",
            "#f2875a",
            "#37c79b",
            "#de94c6",
            "#e2b33f",
            "#86d3f5",
            "#a99cf7",
            "#e4708f",
            "#8f97a1",
            "#6d757f",
            "#1a222c",
            "#5ea9ec",
            "#14171b",
            "#a8522f",
            "#ffb592",
            "#23272d",
            "#2f5d5f",
            "#45a3ab",
            "#c4f0e3",
        ],
        strict=True,
    )
)
_HUES = [name for name in _NAMES if name[0] == "m" and name[1:].isdigit()]
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")
_DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Style:
    """Colour and marker of one method."""

    colour: str
    """Name of the colour in the palette."""
    symbol: str
    """Plotly's name of the marker."""
    dash: str
    """Plotly's name of the dash of lines."""


def colour(name: str, opacity: float = 1.0) -> Colour:
    """Return a colour of the palette for a figure."""
    return {"$c": name} if opacity == 1 else {"$c": name, "a": opacity}


def styles(methods: Iterable[tuple[str, str | None]]) -> dict[str, Style]:
    """Assign a style to each method, in the study's order, so reruns keep their colours.

    Args:
        methods: Pairs of name and family.
    """
    found: dict[str, Style] = {}
    hues = greys = 0
    for name, family in methods:
        if family in ("baseline", "classical"):
            found[name] = Style(f"g{greys % 2}", ("circle-open", "square-open")[greys % 2], "dot")
            greys += 1
        else:
            turn, place = divmod(hues, len(_HUES))
            symbol = _SYMBOLS[(place + turn) % len(_SYMBOLS)]
            found[name] = Style(_HUES[place], symbol, _DASHES[turn % len(_DASHES)])
            hues += 1
    return found


def css() -> str:
    """Return the palette as CSS custom properties; printed pages are always light."""

    def block(colours: dict[str, str]) -> str:
        return "".join(f"--{name}:{value};" for name, value in colours.items())

    return (
        f":root{{{block(LIGHT)}color-scheme:light}}\n"
        "@media screen and (prefers-color-scheme:dark){"
        f":root:not([data-print]){{{block(DARK)}color-scheme:dark}}}}"
    )
