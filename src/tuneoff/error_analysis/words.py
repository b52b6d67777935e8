"""Which words stand in the rows that a method gets wrong, and which of them more than by chance."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneoff.error_analysis.certainty import (
    SURE,
    adjusted,
    design_effects,
    more_than_chance,
    sure,
    wilson,
)
from tuneoff.error_analysis.evidence import Evidence, Floats

LEAST_ROWS = 5
"""Test rows that must hold a word; below, no error rate says anything."""
LISTED = 15
"""Words kept per method and view."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class FrequentWord:
    """A word by how many of the errors hold it: what a plain count shows."""

    word: str
    side: str
    """Of a pair, `first` or `second` text; empty where there is one text."""
    errors: int
    share_of_errors: float
    share_of_rows: float


@dataclass(frozen=True)
class SuspectWord:
    """A word whose rows go wrong more often than others."""

    word: str
    side: str
    rows: int
    """Test rows that hold it."""
    errors: int
    rate: float
    """errors / rows."""
    low: float
    high: float
    """95 % interval of the rate (Wilson)."""
    q: float
    """False discovery rate over all words and methods looked at."""

    @property
    def sure(self) -> bool:
        """Whether this is more than luck."""
        return self.q <= SURE


@dataclass(frozen=True)
class MethodWords:
    """The words of one method's errors."""

    errors: int
    rate: float
    """Share of all test rows that the method gets wrong."""
    frequent: list[FrequentWord]
    suspect: list[SuspectWord]
    """Most surely over-represented first."""
    sure: int
    """How many words are sure, listed or not."""


@dataclass(frozen=True)
class WordAcross:
    """One word under every method."""

    word: str
    side: str
    rows: int
    rates: dict[str, float]
    sure: list[str]
    """Methods under which its excess is sure."""


@dataclass(frozen=True)
class Words:
    """The view on words."""

    methods: dict[str, MethodWords]
    across: list[WordAcross]
    """By the number of methods under which a word is sure, then by its smallest q."""
    looked_at: int
    """Different words that stand in enough rows."""


def words_of(text: str) -> set[str]:
    """The different words of a text, case folded; letters, digits and inner apostrophes."""
    return set(_WORD.findall(text.casefold()))


def words(evidence: Evidence) -> Words | None:
    """Words against errors, each row counted once per word; None without texts.

    The two texts of a pair are looked at apart: one premise often comes with several hypotheses.
    A word's p-value is that of a one-sided exact test (hypergeometric) of its rows against all
    test rows, corrected over all words of all methods by Benjamini and Hochberg. Where rows come in
    groups, all counts are divided by their design effect first.
    """
    vocabulary, matrix = _counted(evidence)
    if not vocabulary:
        return None
    total = len(evidence)
    rows = np.asarray(matrix.sum(0)).ravel()
    wrong = np.stack([evidence.wrong[m.name] for m in evidence.methods], 1).astype(np.int64)
    errors, hits = wrong.sum(0), np.asarray(matrix.T @ wrong)
    effect = design_effects(matrix, wrong, evidence.group_codes)
    p = more_than_chance(hits / effect, rows[:, None] / effect, errors / effect, total / effect)
    counted = _Counted(vocabulary, rows, hits, effect, p, adjusted(p), total)
    found = {
        method.name: _of_method(counted, j, int(errors[j]))
        for j, method in enumerate(evidence.methods)
    }
    return Words(found, _across(evidence, counted), len(vocabulary))


@dataclass(frozen=True)
class _Counted:
    vocabulary: list[tuple[str, str]]
    """(word, side)."""
    rows: npt.NDArray[np.int64]
    """(words,) test rows that hold it."""
    hits: npt.NDArray[np.int64]
    """(words, methods) those of them that are wrong."""
    effect: Floats
    """(words, methods) of the groups that rows come in."""
    p: Floats
    q: Floats
    """(words, methods)."""
    total: int


def _counted(evidence: Evidence) -> tuple[list[tuple[str, str]], Any]:
    """The words in enough rows, and a sparse (rows, words) matrix of ones where a row holds one."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer

    sides = {"": evidence.texts}
    if evidence.pairs is not None:
        sides = {"first": evidence.texts, "second": evidence.pairs}
    vocabulary: list[tuple[str, str]] = []
    blocks = []
    for side, texts in sides.items():
        if texts is None or len(texts) < LEAST_ROWS:
            continue
        counter = CountVectorizer(analyzer=words_of, min_df=LEAST_ROWS, dtype=np.int64)
        try:
            blocks.append(counter.fit_transform(texts))
        except ValueError:  # how scikit-learn says that no word is left
            continue
        vocabulary += [(word, side) for word in counter.get_feature_names_out()]
    return vocabulary, hstack(blocks, format="csr") if blocks else None


def _of_method(counted: _Counted, j: int, errors: int) -> MethodWords:
    names, rows, hits = counted.vocabulary, counted.rows, counted.hits[:, j]
    p, q, total = counted.p[:, j], counted.q[:, j], counted.total
    low, high = wilson(hits / counted.effect[:, j], rows / counted.effect[:, j])
    frequent = sorted(np.flatnonzero(hits), key=lambda i: (-hits[i], rows[i], names[i]))
    suspect = sorted(
        np.flatnonzero(hits * total > rows * errors), key=lambda i: (p[i], -low[i], names[i])
    )
    return MethodWords(
        errors=errors,
        rate=errors / total,
        frequent=[
            FrequentWord(*names[i], int(hits[i]), float(hits[i]) / errors, float(rows[i]) / total)
            for i in frequent[:LISTED]
        ],
        suspect=[
            SuspectWord(
                *names[i], int(rows[i]), int(hits[i]), float(hits[i] / rows[i]),
                float(low[i]), float(high[i]), float(q[i]),
            )
            for i in suspect[:LISTED]
        ],
        sure=int(sure(q).sum()),
    )  # fmt: skip


def _across(evidence: Evidence, counted: _Counted) -> list[WordAcross]:
    contending = {m.name for m in evidence.contenders}
    columns = [j for j, m in enumerate(evidence.methods) if m.name in contending]
    is_sure = sure(counted.q)
    times, least = is_sure[:, columns].sum(1), counted.q[:, columns].min(1)
    names, rows, hits = counted.vocabulary, counted.rows, counted.hits
    order = sorted(np.flatnonzero(times), key=lambda i: (-times[i], least[i], names[i]))
    return [
        WordAcross(
            *names[i],
            int(rows[i]),
            {m.name: float(hits[i, j] / rows[i]) for j, m in enumerate(evidence.methods)},
            [evidence.methods[j].name for j in columns if is_sure[i, j]],
        )
        for i in order[:LISTED]
    ]
