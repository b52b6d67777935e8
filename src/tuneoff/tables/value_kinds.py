"""Statistics of the values of a column, and whether it can be the text or the label."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

SAMPLE = 2_000
"""Number of values whose type is inspected. Distinct values are counted over all rows."""

LABELS = 200
"""Maximum number of distinct strings in a column of labels."""

CODES = 20
"""Maximum number of distinct whole numbers in a column of labels."""

LABEL_LENGTH = 60
"""Maximum median length of the strings in a column of labels, in characters."""

SENTENCE = 4
"""Minimum median number of words in a column of sentences, as opposed to names."""

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_WHOLE = re.compile(r"\s*[+-]?\d+(\.0*)?\s*")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ].*)?"  # 2024-02-28, 2024-02-28T09:30
    r"|\d{1,2}[-/. ]\d{1,2}[-/. ]\d{2,4}( .*)?"  # 28/02/2024
    r"|\d{1,2}:\d{2}(:\d{2})?( ?[AaPp][Mm])?"  # 09:30
    r"|(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\d.*"  # Mon Apr 06 22:19:45 PDT 2009
    r"|(\d{1,2} )?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? \d{1,4}(,? .*)?"
)
_WORD = re.compile(r"[^\W\d_]+")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Characters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, CJK."""


@dataclass(frozen=True)
class Look:
    """Summary of the values of one column."""

    kind: str
    """Type of the values, as shown in messages, such as `strings` or `whole numbers`."""
    values: int = 0
    """Number of values that are not missing."""
    distinct: int = 0
    """Number of distinct values."""
    length: float = 0.0
    """Median length, in characters."""
    words: float = 0.0
    """Median number of words; for scripts without spaces, half the number of characters."""

    @property
    def can_be_label(self) -> bool:
        """Whether the column has few distinct and short values, with two rows each on average."""
        most = {"strings": LABELS, "whole numbers": CODES, "booleans": 2}.get(self.kind, 0)
        return 2 <= self.distinct <= min(most, self.values / 2) and self.length <= LABEL_LENGTH

    @property
    def can_be_text(self) -> bool:
        """Whether the values have several words and are not names of labels."""
        return self.kind == "strings" and self.words > 1 and not self._are_names

    @property
    def _are_names(self) -> bool:
        return self.can_be_label and self.words < SENTENCE

    def __str__(self) -> str:
        if self.kind == "strings":
            if self.can_be_text:
                words = max(1, round(self.words))
                return f"text, median of {words} {'word' if words == 1 else 'words'}"
            if self.distinct == self.values:
                return "a different value in each row"
            return f"{self.distinct} distinct values"
        if self.kind in ("whole numbers", "booleans"):
            return f"{self.kind}, {self.distinct} distinct"
        return self.kind


def look_at(values: Sequence[Any]) -> Look:
    """Summarise the unchecked values of one column."""
    given = [v for v in values if v is not None and v == v and not _is_blank(v)]
    if not given:
        return Look("empty")
    sample = [given[i * len(given) // SAMPLE] for i in range(SAMPLE)]
    sample = given if len(given) <= SAMPLE else sample
    kind = _kind(sample)
    try:
        distinct = len(set(given))
    except TypeError:  # lists and objects
        return Look("lists or objects", len(given))
    texts = [str(value) for value in sample]
    return Look(
        kind,
        len(given),
        distinct,
        median(map(len, texts)),
        median(map(_word_count, texts)) if kind == "strings" else 0.0,
    )


def is_number(value: str) -> bool:
    """Return whether a field of a text file is a number."""
    return _NUMBER.fullmatch(value) is not None


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _kind(sample: Sequence[Any]) -> str:
    if all(isinstance(value, bool) for value in sample):
        return "booleans"
    if all(
        isinstance(value, datetime.date | datetime.time | datetime.timedelta) for value in sample
    ):
        return "dates"
    texts = [str(value) for value in sample if isinstance(value, str | int | float)]
    if len(texts) < len(sample):
        return "lists or objects"
    if all(text.lower() in ("true", "false") for text in texts):
        return "booleans"
    if all(map(_WHOLE.fullmatch, texts)):
        return "whole numbers"
    if all(map(is_number, texts)):
        return "real numbers"
    if sum(_DATE.fullmatch(text.strip()) is not None for text in texts) > 0.9 * len(texts):
        return "dates"
    return "strings"


def _word_count(text: str) -> float:
    unspaced = len(_UNSPACED.findall(text)) if not text.isascii() else 0
    return sum(1 for token in text.split() if _WORD.search(token)) + unspaced / 2
