"""What an error analysis works from: predictions of every run, and the texts they are about."""

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
class RunAnswers:
    """One run's answers on one split."""

    predicted: Ints
    """(rows,) positions in the label list."""
    probabilities: Floats | None = None
    """(rows, labels), each row adding up to 1; None where labels alone are known."""


@dataclass(frozen=True)
class MethodAnswers:
    """One method's answers, a `RunAnswers` for each of its seeds."""

    name: str
    test: tuple[RunAnswers, ...]
    validation: tuple[RunAnswers, ...] = ()
    """As many as `test`, or none."""
    contender: bool = True
    """False for the untuned baseline, whose errors say nothing about fine-tuning."""


@dataclass(frozen=True)
class Evidence:
    """The rows of one split and what every method answered.

    With several seeds, a row's answer is the one that most of a method's seeds give, a tie going
    to the more probable. Counting every seed as a row of its own would make each finding look
    surer than it is.
    """

    labels: list[str]
    ids: list[Hashable]
    """(rows,) row of the source file, 0-based, or whatever names a row elsewhere."""
    true: Ints
    """(rows,) positions in `labels`."""
    weights: Floats
    """(rows,) of the scores; the other views count rows."""
    methods: tuple[MethodAnswers, ...]
    texts: list[str] | None = None
    pairs: list[str] | None = None
    groups: list[str] | None = None
    """(rows,) "" for a row without a group."""
    training_texts: list[str] = field(default_factory=list)
    """Of which words are rare; a pair's two texts are two entries joined by a line feed."""
    validation_true: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.true)

    @property
    def contenders(self) -> tuple[MethodAnswers, ...]:
        """The methods without the untuned baseline, unless it stands alone."""
        return tuple(m for m in self.methods if m.contender) or self.methods

    @cached_property
    def answers(self) -> dict[str, Ints]:
        """Each method's answer per row: (rows,) positions in `labels`."""
        return {m.name: _vote(m.test, len(self.labels)) for m in self.methods}

    @cached_property
    def wrong(self) -> dict[str, Bools]:
        """(rows,) whether a method's answer is wrong."""
        return {name: answer != self.true for name, answer in self.answers.items()}

    @cached_property
    def group_codes(self) -> Ints | None:
        """(rows,) the same number for rows of one group; None where every row is by itself."""
        if not self.groups or not any(self.groups):
            return None
        known: dict[str | int, int] = {}
        return np.array([known.setdefault(g or i, len(known)) for i, g in enumerate(self.groups)])

    @cached_property
    def joined(self) -> list[str]:
        """(rows,) all text of a row: a pair's two texts on two lines."""
        texts = self.texts or []
        if self.pairs is None:
            return texts
        return [f"{text}\n{pair}" for text, pair in zip(texts, self.pairs, strict=True)]


def mean_probabilities(runs: Sequence[RunAnswers]) -> Floats | None:
    """(rows, labels) the mean over the runs that have probabilities; None if none has."""
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
) -> Evidence:
    """`Evidence` from tables as `predictions.parquet` and the task's `rows.parquet` hold them.

    `predictions`: by method, a table for each seed, with `split`, `row`, `label`, `prediction`,
    and where known `probability_<label>` and `weight`. `rows`: `split`, `row`, `text`, and where
    there are any `text_pair` and `group`; None leaves out what needs texts. `references` names
    the methods that are no contenders. Raises `ValueError` where tables hold different rows.
    """
    import pandas as pd

    positions = {label: i for i, label in enumerate(labels)}
    named = [(name, table) for name, tables in predictions.items() for table in tables]
    first = _of_split(named[0][1], split)
    order = pd.Index(first["row"])
    methods = tuple(
        MethodAnswers(
            name,
            tuple(_answers(_ordered(_of_split(t, split), order, name), positions) for t in tables),
            _validation(tables, positions) if split == "test" else (),
            contender=name not in references,
        )
        for name, tables in predictions.items()
    )
    validation = _of_split(named[0][1], "validation")
    weights = first["weight"] if "weight" in first else np.ones(len(first))
    return Evidence(
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
        raise ValueError(f"the predictions of {name!r} are of other rows than the first ones")
    return indexed.loc[order]


def _validation(
    tables: Sequence[pd.DataFrame], positions: Mapping[str, int]
) -> tuple[RunAnswers, ...]:
    found = [_of_split(table, "validation") for table in tables]
    return tuple(_answers(t, positions) for t in found) if all(map(len, found)) else ()


def _answers(table: pd.DataFrame, positions: Mapping[str, int]) -> RunAnswers:
    columns = [f"probability_{label}" for label in positions]
    known = all(column in table for column in columns)
    return RunAnswers(
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


def _vote(runs: Sequence[RunAnswers], labels: int) -> Ints:
    if len(runs) == 1:
        return runs[0].predicted
    votes = np.zeros((len(runs[0].predicted), labels))
    every = np.arange(len(votes))
    for run in runs:
        votes[every, run.predicted] += 1
    probable = mean_probabilities(runs)
    if probable is not None:
        votes += probable / 2  # less than a vote: decides ties alone
    chosen: Ints = votes.argmax(1)
    return chosen
