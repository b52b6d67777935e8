"""Words that are associated with errors."""

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
    significant,
    wilson,
)
from tuneoff.error_analysis.evidence import ErrorEvidence, Floats

LEAST_ROWS = 5
"""Minimum number of test rows that contain a word; with fewer, an error rate is meaningless."""
LISTED = 15
"""Number of words per method and list."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class FrequentWord:
    """A word with the number of errors that contain it."""

    word: str
    """The word, case-folded."""
    side: str
    """`first` or `second` text of a pair; empty for single texts."""
    errors: int
    """Number of wrong rows that contain the word."""
    share_of_errors: float
    """Fraction of the wrong rows that contain the word."""
    share_of_rows: float
    """Fraction of all rows that contain the word."""


@dataclass(frozen=True)
class SuspectWord:
    """A word whose rows have a higher error rate than all rows."""

    word: str
    """The word, case-folded."""
    side: str
    """`first` or `second` text of a pair; empty for single texts."""
    rows: int
    """Number of test rows that contain the word."""
    errors: int
    """Number of these rows that are wrong."""
    rate: float
    """Error rate: errors / rows."""
    low: float
    """Lower end of the 95 % interval of the rate (Wilson)."""
    high: float
    """Upper end of the interval."""
    q: float
    """False discovery rate over all words of all methods."""

    @property
    def significant(self) -> bool:
        """Whether the word is significantly over-represented among the errors."""
        return self.q <= SURE


@dataclass(frozen=True)
class MethodWords:
    """Words in the errors of one method."""

    errors: int
    """Number of errors."""
    rate: float
    """Error rate on all test rows."""
    frequent: list[FrequentWord]
    """Words that occur in most errors."""
    suspect: list[SuspectWord]
    """Words that are over-represented among the errors, most significant first."""
    significant: int
    """Number of all significant words, whether listed or not."""


@dataclass(frozen=True)
class WordAcross:
    """Error rates of a word for all methods."""

    word: str
    """The word, case-folded."""
    side: str
    """`first` or `second` text of a pair; empty for single texts."""
    rows: int
    """Number of test rows that contain the word."""
    rates: dict[str, float]
    """Error rate of these rows by method."""
    significant: list[str]
    """Methods for which the word is significantly over-represented."""


@dataclass(frozen=True)
class Words:
    """Words associated with errors."""

    methods: dict[str, MethodWords]
    """Words of each method."""
    across: list[WordAcross]
    """Significant words, by number of methods and then by smallest q."""
    tested: int
    """Number of distinct words with enough rows."""


def words_of(text: str) -> set[str]:
    """Return the distinct case-folded words: letters, digits and inner apostrophes."""
    return set(_WORD.findall(text.casefold()))


def words(evidence: ErrorEvidence) -> Words | None:
    """Find words associated with errors; None without texts.

    Each row counts once per word. The two texts of a pair are separate, because a premise often
    occurs with several hypotheses. The P value of a word comes from a one-sided exact test
    (hypergeometric) of its rows against all test rows, corrected over all words of all methods by
    Benjamini and Hochberg. If rows belong to groups, all counts are first divided by their design
    effect.
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
    """(words,) test rows that contain the word."""
    hits: npt.NDArray[np.int64]
    """(words, methods) wrong rows that contain the word."""
    effect: Floats
    """(words, methods) design effect of groups of rows."""
    p: Floats
    """(words, methods) P values."""
    q: Floats
    """(words, methods) false discovery rates."""
    total: int


def _counted(evidence: ErrorEvidence) -> tuple[list[tuple[str, str]], Any]:
    """Return the words with enough rows, and the sparse (rows, words) matrix of occurrences."""
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
        except ValueError:  # raised by scikit-learn if no word has enough rows
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
        significant=int(significant(q).sum()),
    )  # fmt: skip


def _across(evidence: ErrorEvidence, counted: _Counted) -> list[WordAcross]:
    contending = {m.name for m in evidence.contenders}
    columns = [j for j, m in enumerate(evidence.methods) if m.name in contending]
    is_sure = significant(counted.q)
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
