"""What the values of a column look like: a text, a label, or something that is neither."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

SAMPLE = 2_000
"""Values whose form is looked at; the different ones are counted over all."""

LABELS = 200
"""Different strings up to which a column can be one of labels."""

CODES = 20
"""Different whole numbers up to which a column can be one of labels."""

LABEL_LENGTH = 60
"""Characters (median) up to which a string can be a label."""

SENTENCE = 4
"""Words (median) from which a column holds sentences and not names."""

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
"""Characters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, CJK."""


@dataclass(frozen=True)
class Look:
    """The values of one column, summed up; `kind` says what they are, in a reader's words."""

    kind: str
    values: int = 0
    """Those that are not missing."""
    distinct: int = 0
    length: float = 0.0
    """Characters, the median."""
    words: float = 0.0
    """Words, the median; of scripts without spaces, half of the characters."""

    @property
    def can_be_label(self) -> bool:
        """Whether there are few different values, each short and given to several rows."""
        most = {"strings": LABELS, "whole numbers": CODES, "booleans": 2}.get(self.kind, 0)
        return 2 <= self.distinct <= min(most, self.values / 2) and self.length <= LABEL_LENGTH

    @property
    def can_be_text(self) -> bool:
        """Whether the values are made of several words, as a rule a different text in each row."""
        return self.kind == "strings" and self.words > 1 and not self._are_names

    @property
    def _are_names(self) -> bool:
        return self.can_be_label and self.words < SENTENCE

    def __str__(self) -> str:
        if self.kind == "strings":
            if self.can_be_text:
                words = max(1, round(self.words))
                return f"text, {words} {'word' if words == 1 else 'words'} typically"
            if self.distinct == self.values:
                return "a different value in each row"
            return f"{self.distinct} different values"
        if self.kind in ("whole numbers", "booleans"):
            return f"{self.kind}, {self.distinct} different ones"
        return self.kind


def look_at(values: Sequence[Any]) -> Look:
    """Sum up the values of one column as a reader found them."""
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
    """Whether a field of a text file is a number."""
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
