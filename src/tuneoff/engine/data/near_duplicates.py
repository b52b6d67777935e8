"""Near-duplicates between splits: texts that differ in a word, case, punctuation or spaces."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

ALIKE = 0.8
"""Minimum Jaccard similarity of the words of near-duplicates: common words over all words."""

END = 6
"""Number of first or last words that two near-duplicates have in common. One change affects only
one of the two ends, so a pair is missed only if both ends were changed."""

LOOKED_AT = 8
"""Maximum number of candidates per end. Form letters have the same start by the thousand."""

_WORD = re.compile(r"\w+")


def near_rows(known: pd.DataFrame, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Find rows whose text (and pair) is almost the same as one in `known`, but not identical.

    The time is linear in the number of rows; 50,000 reviews take a few seconds.

    Returns:
        Mask of shape (rows of `frame`,).
    """
    texts = _joined(known)
    words = [_WORD.findall(text.casefold()) for text in texts]
    by_end: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, own in enumerate(words):
        for end in _ends(own):
            if len(by_end[end]) < LOOKED_AT:
                by_end[end].append(place)
    same = set(texts)
    near = np.zeros(len(frame), bool)
    for row, text in enumerate(_joined(frame)):
        if text in same:  # identical texts have a separate warning
            continue
        own = _WORD.findall(text.casefold())
        others = {place for end in _ends(own) for place in by_end.get(end, ())}
        near[row] = any(_alike(own, words[place]) for place in others)
    return near


def _joined(frame: pd.DataFrame) -> list[str]:
    texts: list[str] = frame["text"].tolist()
    if "text_pair" not in frame:
        return texts
    return [f"{text}\n{pair}" for text, pair in zip(texts, frame["text_pair"], strict=True)]


def _ends(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the keys by which candidates are found: the first and last words (up to a half)."""
    size = min(END, (len(words) + 1) // 2)
    return [("first", *words[:size]), ("last", *words[-size:])] if size else []


def _alike(one: Sequence[str], other: Sequence[str]) -> bool:
    first, second = set(one), set(other)
    return len(first & second) >= ALIKE * len(first | second)
