"""Texts that are nearly those of another split: a word changed, case, punctuation or spaces."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

ALIKE = 0.8
"""Share of the words of two texts that both hold, from which they are near-duplicates."""

END = 6
"""Words at the beginning, or at the end, that two near-duplicates share. One change leaves one of
the two ends as it was, so it takes two changes far apart to go unnoticed."""

LOOKED_AT = 8
"""Candidates of one ending that a text is compared with: forms begin alike by the thousand."""

_WORD = re.compile(r"\w+")


def near_rows(known: pd.DataFrame, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(rows of `frame`,) whether its text (and pair) is nearly one of `known`, and not the same.

    Linear in the rows: 50,000 reviews take a few seconds.
    """
    texts = _joined(known)
    words = [_WORD.findall(text.casefold()) for text in texts]
    by_end: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, own in enumerate(words):
        for end in _ends(own):
            if len(by_end[end]) < LOOKED_AT:
                by_end[end].append(place)
    same = set(texts)
    found = np.zeros(len(frame), bool)
    for row, text in enumerate(_joined(frame)):
        if text in same:  # another warning tells these
            continue
        own = _WORD.findall(text.casefold())
        others = {place for end in _ends(own) for place in by_end.get(end, ())}
        found[row] = any(_alike(own, words[place]) for place in others)
    return found


def _joined(frame: pd.DataFrame) -> list[str]:
    texts: list[str] = frame["text"].tolist()
    if "text_pair" not in frame:
        return texts
    return [f"{text}\n{pair}" for text, pair in zip(texts, frame["text_pair"], strict=True)]


def _ends(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The keys by which near-duplicates find each other; half of a short text is an end."""
    size = min(END, (len(words) + 1) // 2)
    return [("first", *words[:size]), ("last", *words[-size:])] if size else []


def _alike(one: Sequence[str], other: Sequence[str]) -> bool:
    first, second = set(one), set(other)
    return len(first & second) >= ALIKE * len(first | second)
