"""Rows and predictions of a study, whose errors are independent of texts, labels and groups.

Tests add errors that depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.error_analysis import ErrorEvidence, collect

LABELS = ["contradiction", "entailment", "neutral"]
VOCABULARY = [f"w{i}" for i in range(1500)]
GUILTY = "w40"
TEST_ROWS = 2500


def make_rows(seed: int = 0, pair: bool = False, test: int = TEST_ROWS) -> pd.DataFrame:
    """Return `rows.parquet`: words by Zipf's law, texts of 3 to 40 words, eight groups."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(VOCABULARY) + 1)
    frames = []
    for split, count in (("train", 1500), ("validation", 400), ("test", test)):
        lengths = rng.integers(3, 41, count)
        draws = rng.choice(VOCABULARY, lengths.sum(), p=weights / weights.sum())
        texts = [" ".join(part) for part in np.split(draws, lengths.cumsum()[:-1])]
        frame = {"split": split, "row": np.arange(count) * 3, "text": texts}
        if pair:
            frame["text_pair"] = [" ".join(rng.choice(VOCABULARY, 6)) for _ in range(count)]
        frame["label"] = rng.choice(LABELS, count)
        frame["group"] = [f"g{i}" for i in rng.integers(0, 8, count)]
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def make_predictions(rows: pd.DataFrame, accuracy: float = 0.8, seed: int = 0) -> pd.DataFrame:
    """Return `predictions.parquet` of validation and test rows with random errors."""
    table = rows[rows["split"] != "train"][["split", "row", "label"]].reset_index(drop=True)
    wrong = np.random.default_rng(seed + 1000).random(len(table)) > accuracy
    return answered(table, wrong, seed)


def answered(table: pd.DataFrame, wrong: Any, seed: int = 0) -> pd.DataFrame:
    """Return `table` with predictions and probabilities that are wrong exactly for `wrong`."""
    rng = np.random.default_rng(seed)
    true = np.array([LABELS.index(x) for x in table["label"]])
    predicted = np.where(wrong, (true + rng.integers(1, 3, len(true))) % 3, true)
    scores = rng.dirichlet([1, 1, 1], len(true)) * 0.45
    scores[np.arange(len(true)), predicted] += 0.55
    scores = scores / scores.sum(1, keepdims=True)
    frame = table[["split", "row", "label"]].copy()
    frame["prediction"] = [LABELS[i] for i in predicted]
    for i, label in enumerate(LABELS):
        frame[f"probability_{label}"] = scores[:, i].astype(np.float32)
    return frame.assign(weight=np.float32(1))


def worsened(predictions: pd.DataFrame, where: Any, share: float, seed: int = 5) -> pd.DataFrame:
    """Return a copy in which a further fraction of the test rows `where` (numbers) is wrong."""
    rng = np.random.default_rng(seed)
    wrong = (predictions["label"] != predictions["prediction"]).to_numpy()
    inside = (predictions["split"] == "test") & predictions["row"].isin(where)
    return answered(predictions, wrong | (inside.to_numpy() & (rng.random(len(wrong)) < share)))


class Toy:
    """Data of a study for the tests of this folder."""

    labels = LABELS
    guilty = GUILTY
    rows = staticmethod(make_rows)
    predictions = staticmethod(make_predictions)
    answered = staticmethod(answered)
    worsened = staticmethod(worsened)

    @staticmethod
    def evidence(rows: pd.DataFrame | None, **methods: list[pd.DataFrame]) -> ErrorEvidence:
        return collect(methods, LABELS, rows, references=["baseline"])

    @staticmethod
    def containing(rows: pd.DataFrame, word: str, column: str = "text") -> list[int]:
        """Return the numbers of the test rows that contain `word`."""
        test = rows[rows["split"] == "test"]
        return test["row"][[word in text.split() for text in test[column]]].tolist()


@pytest.fixture(scope="session")
def toy() -> type[Toy]:
    return Toy
