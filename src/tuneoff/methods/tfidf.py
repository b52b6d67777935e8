"""TF-IDF of word n-grams with logistic regression.

It is the classical baseline: fine-tuning must be better than this to be worth its cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tuneoff.methods.base import Method
from tuneoff.methods.search_ranges import Span

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class TfidfConfig:
    """Settings of TF-IDF and logistic regression.

    `ngrams` is the maximum length of word n-grams. `min_count` is the minimum number of texts that
    contain a term. `max_features` is the maximum number of terms. `c` is the inverse of the L2
    regularisation strength.
    """

    ngrams: Annotated[int, Span(1, 3, whole=True)] = 2
    min_count: Annotated[int, Span(1, 5, whole=True)] = 1
    max_features: int = 200_000
    c: Annotated[float, Span(0.1, 1000.0, log=True)] = 10.0

    def __post_init__(self) -> None:
        if min(self.ngrams, self.min_count, self.max_features) < 1:
            raise ValueError("ngrams, min_count and max_features must be at least 1")
        if self.c <= 0:
            raise ValueError("c must be positive")


def estimator(config: TfidfConfig, seed: int) -> Pipeline:
    """Return the scikit-learn pipeline from texts to probabilities."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        TfidfVectorizer(
            ngram_range=(1, config.ngrams),
            min_df=config.min_count,
            max_features=config.max_features,
            sublinear_tf=True,
            # Scikit-learn's default drops words of a single character, which are common in Chinese
            # and Japanese.
            token_pattern=r"(?u)\b\w+\b",
        ),
        LogisticRegression(C=config.c, max_iter=1000, random_state=seed),
    )


TFIDF = Method(
    name="tfidf",
    family="classical",
    summary="no encoder: TF-IDF features and logistic regression",
    config=TfidfConfig,
    estimator=estimator,
    searched="c",
    paper="Salton and Buckley 1988; Pedregosa et al. 2011 (scikit-learn)",
)
