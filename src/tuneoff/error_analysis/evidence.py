"""Input of the error analysis: predictions of all runs, and the texts of the rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeedPredictions:
    """Predictions of one run on one split."""

    predicted: Ints
    """(rows,) indices of the predicted labels."""
    probabilities: Floats | None = None
    """(rows, labels) probabilities; each row sums to 1. None if only labels are known."""


@dataclass(frozen=True)
class MethodPredictions:
    """Predictions of one method, with one `SeedPredictions` per seed."""

    name: str
    """Name of the method."""
    test: tuple[SeedPredictions, ...]
    """Predictions on the analysed split, one per seed."""
    validation: tuple[SeedPredictions, ...] = ()
    """Predictions on the validation split, one per seed, or none."""
    contender: bool = True
    """False for the untrained baseline, whose errors are not those of a fine-tuned model."""


@dataclass(frozen=True)
class ErrorEvidence:
    """Rows of one split with the predictions of all methods.

    With several seeds, the prediction for a row is the majority vote of the method's seeds; ties go
    to the more probable label. Counting each seed as a separate row would overstate the
    significance of all findings.
    """

    labels: list[str]
    """The study's label set."""
    ids: list[Hashable]
    """(rows,) row numbers in the source file, from 0, or other ids in external predictions."""
    true: Ints
    """(rows,) indices of the true labels in `labels`."""
    weights: Floats
    """(rows,) weights for scores; the other parts of the analysis count rows."""
    methods: tuple[MethodPredictions, ...]
    """Predictions of all methods."""
    texts: list[str] | None = None
    """(rows,) first texts."""
    pairs: list[str] | None = None
    """(rows,) second texts of text pairs."""
    groups: list[str] | None = None
    """(rows,) names of groups, "" for a row without a group."""
    training_texts: list[str] = field(default_factory=list)
    """Training texts, used to find rare words; the two texts of a pair are joined by a newline."""
    validation_true: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """(validation rows,) indices of the true labels."""

    def __len__(self) -> int:
        return len(self.true)

    @property
    def contenders(self) -> tuple[MethodPredictions, ...]:
        """All methods except the untrained baseline, or only the baseline if it is alone."""
        return tuple(m for m in self.methods if m.contender) or self.methods

    @cached_property
    def predictions(self) -> dict[str, Ints]:
        """(rows,) indices of the predicted labels of each method, by majority vote of its seeds."""
        return {m.name: _vote(m.test, len(self.labels)) for m in self.methods}

    @cached_property
    def wrong(self) -> dict[str, Bools]:
        """(rows,) whether each method's prediction is wrong."""
        return {name: predicted != self.true for name, predicted in self.predictions.items()}

    @cached_property
    def group_codes(self) -> Ints | None:
        """(rows,) group numbers, equal for rows of one group; None without groups."""
        if not self.groups or not any(self.groups):
            return None
        known: dict[str | int, int] = {}
        return np.array([known.setdefault(g or i, len(known)) for i, g in enumerate(self.groups)])

    @cached_property
    def joined(self) -> list[str]:
        """(rows,) complete text of each row; the two texts of a pair are on two lines."""
        texts = self.texts or []
        if self.pairs is None:
            return texts
        return [f"{text}\n{pair}" for text, pair in zip(texts, self.pairs, strict=True)]


def mean_probabilities(runs: Sequence[SeedPredictions]) -> Floats | None:
    """Return the (rows, labels) mean over all runs with probabilities, or None."""
    known = [run.probabilities for run in runs if run.probabilities is not None]
    if not known:
        return None
    total: Floats = np.sum(known, axis=0)
    return total / len(known)


def collect(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    labels: Sequence[str],
    rows: pd.DataFrame | None = None,
    *,
    split: str = "test",
    references: Sequence[str] = (),
) -> ErrorEvidence:
    """Create `ErrorEvidence` from tables in the format of `predictions.parquet` and `rows.parquet`.

    Args:
        predictions: For each method, one table per seed with the columns `split`, `row`, `label`,
            `prediction`, and optionally `probability_<label>` and `weight`.
        labels: The study's label set.
        rows: Table with the columns `split`, `row`, `text`, and optionally `text_pair` and `group`.
            Without it, all parts of the analysis that need texts are skipped.
        split: The split to analyse.
        references: Names of the methods that are not contenders.

    Raises:
        ValueError: If the tables have different rows.
    """
    import pandas as pd

    positions = {label: i for i, label in enumerate(labels)}
    named = [(name, table) for name, tables in predictions.items() for table in tables]
    first = _of_split(named[0][1], split)
    order = pd.Index(first["row"])
    methods = tuple(
        MethodPredictions(
            name,
            tuple(
                _seed_predictions(_ordered(_of_split(t, split), order, name), positions)
                for t in tables
            ),
            _validation(tables, positions) if split == "test" else (),
            contender=name not in references,
        )
        for name, tables in predictions.items()
    )
    validation = _of_split(named[0][1], "validation")
    weights = first["weight"] if "weight" in first else np.ones(len(first))
    return ErrorEvidence(
        labels=list(labels),
        ids=list(first["row"]),
        true=_positions(first["label"], positions),
        weights=np.asarray(weights, np.float64),
        methods=methods,
        validation_true=_positions(validation["label"], positions),
        **_texts(rows, split, order),
    )


def _of_split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split"] == split] if "split" in table else table


def _ordered(table: pd.DataFrame, order: pd.Index[Any], name: str) -> pd.DataFrame:
    indexed = table.set_index("row")
    if len(indexed) != len(order) or not indexed.index.isin(order).all():
        raise ValueError(f"the predictions of {name!r} are for different rows than the first ones")
    return indexed.loc[order]


def _validation(
    tables: Sequence[pd.DataFrame], positions: Mapping[str, int]
) -> tuple[SeedPredictions, ...]:
    found = [_of_split(table, "validation") for table in tables]
    return tuple(_seed_predictions(t, positions) for t in found) if all(map(len, found)) else ()


def _seed_predictions(table: pd.DataFrame, positions: Mapping[str, int]) -> SeedPredictions:
    columns = [f"probability_{label}" for label in positions]
    known = all(column in table for column in columns)
    return SeedPredictions(
        predicted=_positions(table["prediction"], positions),
        probabilities=table[columns].to_numpy(np.float64) if known else None,
    )


def _positions(column: pd.Series[Any], positions: Mapping[str, int]) -> Ints:
    return np.array([positions[label] for label in column], np.int64)


def _texts(rows: pd.DataFrame | None, split: str, order: pd.Index[Any]) -> dict[str, Any]:
    if rows is None:
        return {}
    own = rows[rows["split"] == split].set_index("row").loc[order]
    train = rows[rows["split"] == "train"]
    training = train["text"].tolist()
    if "text_pair" in train:
        training = [f"{a}\n{b}" for a, b in zip(training, train["text_pair"], strict=True)]
    return {
        "texts": own["text"].tolist(),
        "pairs": own["text_pair"].tolist() if "text_pair" in own else None,
        "groups": own["group"].tolist() if "group" in own else None,
        "training_texts": training,
    }


def _vote(runs: Sequence[SeedPredictions], labels: int) -> Ints:
    if len(runs) == 1:
        return runs[0].predicted
    votes = np.zeros((len(runs[0].predicted), labels))
    every = np.arange(len(votes))
    for run in runs:
        votes[every, run.predicted] += 1
    probable = mean_probabilities(runs)
    if probable is not None:
        votes += probable / 2  # less than one vote, so it only breaks ties
    chosen: Ints = votes.argmax(1)
    return chosen
