"""What the audit reads: a study's spec, task, rows, records, histories and predictions."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tuneoff.config import StudySpec
from tuneoff.results.record import RunRecord, Status, TaskRecord
from tuneoff.results.store import StudyFolder

if TYPE_CHECKING:
    import pandas as pd

UNTRAINED = ("baseline", "classical")
"""Families without a training by gradient descent."""


@dataclass(frozen=True)
class Evidence:
    """All that the checks look at. What is missing is None or empty: no check guesses."""

    study: StudySpec
    task: TaskRecord | None = None
    records: Sequence[RunRecord] = ()
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of `history.jsonl` by run id."""
    rows: pd.DataFrame | None = None
    """The prepared task's rows: `split, row, text, (text_pair,) label, weight, (group)`."""
    folder: StudyFolder | None = None
    """Where the predictions lie."""
    tuning: Mapping[str, Any] | None = None
    """The content of `trials.json`; None where no settings were searched."""

    @cached_property
    def finished(self) -> list[RunRecord]:
        """The runs with a result, by method and seed."""
        names = [m.name for m in self.study.methods]
        done = [r for r in self.records if r.status is Status.FINISHED]
        return sorted(
            done,
            key=lambda r: (
                names.index(r.method.name) if r.method.name in names else len(names),
                r.method.name,
                r.seed,
            ),
        )

    @cached_property
    def trained(self) -> list[RunRecord]:
        """The runs with a result in which an encoder was trained."""
        return [r for r in self.finished if r.method.family not in UNTRAINED]

    @cached_property
    def accuracy(self) -> dict[str, float]:
        """Mean test accuracy over the seeds, by name of the method."""
        found: dict[str, list[float]] = {}
        for record in self.finished:
            if record.quality.test is not None:
                found.setdefault(record.method.name, []).append(record.quality.test.accuracy)
        return {name: fmean(values) for name, values in found.items()}

    @cached_property
    def test_rows(self) -> int | None:
        """Rows of the test split."""
        if self.task is not None and "test" in self.task.splits:
            return self.task.splits["test"].rows
        return self.finished[0].data.test_rows if self.finished else None

    def split(self, name: str) -> pd.DataFrame | None:
        """The rows of one split; None without rows."""
        if self.rows is None:
            return None
        own = self.rows[self.rows["split"] == name]
        return own if len(own) else None

    @cached_property
    def keys(self) -> pd.Series[Any]:
        """Of each of `rows`: the same value for the same text (and pair), folded."""
        assert self.rows is not None
        key = folded(self.rows["text"])
        if "text_pair" in self.rows:
            # no folded text holds a line feed: it is white space
            key = key + "\n" + folded(self.rows["text_pair"])
        return key

    def shared(self, first: str, second: str) -> pd.DataFrame | None:
        """The rows of split `second` whose folded text (and pair) stands in `first`, too."""
        if self.rows is None or self.split(first) is None or self.split(second) is None:
            return None
        known = set(self.keys[self.rows["split"] == first])
        own = self.rows[self.rows["split"] == second]
        return own[self.keys[own.index].isin(known)]


def collect(
    folder: StudyFolder,
    study: StudySpec,
    task: TaskRecord | None,
    records: Sequence[RunRecord],
) -> Evidence:
    """The evidence in a study's folder (or a single run's) on these records.

    Reads the texts of all rows once: a second or two for 50,000 reviews.
    """
    return Evidence(
        study=study,
        task=task,
        records=records,
        histories={r.run_id: folder.run(r.run_id).history() for r in records},
        rows=folder.rows(task) if task is not None else None,
        folder=folder,
        tuning=folder.trials() if study.tune is not None else None,
    )


def fold(text: str) -> str:
    """`text` without what the eye passes over: Unicode form (NFKC), case, runs of white space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def folded(texts: pd.Series[Any]) -> pd.Series[Any]:
    """`fold` of each."""
    return texts.map(fold)


def named_rows(rows: pd.DataFrame) -> list[str]:
    """`test row 17`, in the order of the rows."""
    return [f"{split} row {row}" for split, row in zip(rows["split"], rows["row"], strict=True)]


def names_of(records: Sequence[RunRecord]) -> list[str]:
    """The methods' names, each once."""
    return list(dict.fromkeys(record.method.name for record in records))


def run_ids(records: Sequence[RunRecord]) -> list[str]:
    """The ids of the runs."""
    return [record.run_id for record in records]


def joined(words: Sequence[object], most: int = 5) -> str:
    """`full, lora and ia3`; with more than `most` of them `full, lora and 4 more`."""
    texts = [str(word) for word in words]
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most} more"
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), *texts[-1:]])
