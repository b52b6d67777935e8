"""Evidence of the audit: a study's spec, task, rows, records, histories and predictions."""

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
from tuneoff.results.summary import Tuning

if TYPE_CHECKING:
    import pandas as pd

UNTRAINED = ("baseline", "classical")
"""Families that are not trained by gradient descent."""


@dataclass(frozen=True)
class AuditEvidence:
    """Input of the checks. Missing parts are None or empty, and their checks find nothing."""

    study: StudySpec
    """Specification of the study."""
    task: TaskRecord | None = None
    """The prepared task."""
    records: Sequence[RunRecord] = ()
    """Records of all runs."""
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of `history.jsonl` by run id."""
    rows: pd.DataFrame | None = None
    """The prepared task's rows: `split, row, text, (text_pair,) label, weight, (group)`."""
    folder: StudyFolder | None = None
    """Folder with the predictions."""
    tuning: Tuning | None = None
    """Content of `trials.json`; None without a search for settings."""

    @cached_property
    def finished(self) -> list[RunRecord]:
        """Finished runs in the order of methods and seeds."""
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
        """Finished runs in which an encoder was trained."""
        return [r for r in self.finished if r.method.family not in UNTRAINED]

    @cached_property
    def accuracy(self) -> dict[str, float]:
        """Mean test accuracy over the seeds, by name of the method, as a fraction."""
        found: dict[str, list[float]] = {}
        for record in self.finished:
            if record.quality.test is not None:
                found.setdefault(record.method.name, []).append(record.quality.test.accuracy)
        return {name: fmean(values) for name, values in found.items()}

    @cached_property
    def test_rows(self) -> int | None:
        """Number of rows of the test split."""
        if self.task is not None and "test" in self.task.splits:
            return self.task.splits["test"].rows
        return self.finished[0].data.test_rows if self.finished else None

    def split(self, name: str) -> pd.DataFrame | None:
        """Return the rows of one split, or None if it has no rows."""
        if self.rows is None:
            return None
        own = self.rows[self.rows["split"] == name]
        return own if len(own) else None

    @cached_property
    def keys(self) -> pd.Series[Any]:
        """Normalised text (and text pair) of each of `rows`."""
        assert self.rows is not None
        key = folded(self.rows["text"])
        if "text_pair" in self.rows:
            # a normalised text contains no line feed, so the key is unambiguous
            key = key + "\n" + folded(self.rows["text_pair"])
        return key

    def shared(self, first: str, second: str) -> pd.DataFrame | None:
        """Return the rows of split `second` whose normalised text (and pair) is also in `first`."""
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
) -> AuditEvidence:
    """Collect the evidence in the folder of a study or of a single run.

    This reads the texts of all rows once, which takes one or two seconds for 50,000 reviews.

    Args:
        folder: Folder of the study.
        study: Specification of the study.
        task: The prepared task, if there is one.
        records: Records to audit.
    """
    return AuditEvidence(
        study=study,
        task=task,
        records=records,
        histories={r.run_id: folder.run(r.run_id).history() for r in records},
        rows=folder.rows(task) if task is not None else None,
        folder=folder,
        tuning=folder.trials() if study.tune is not None else None,
    )


def fold(text: str) -> str:
    """Normalise a text: Unicode form NFKC, case folding, and single spaces as white space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def folded(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Return the normalised texts, see `fold`."""
    return texts.map(fold)


def named_rows(rows: pd.DataFrame) -> list[str]:
    """Format each row as `test row 17`."""
    return [f"{split} row {row}" for split, row in zip(rows["split"], rows["row"], strict=True)]


def names_of(records: Sequence[RunRecord]) -> list[str]:
    """Return the distinct names of the methods."""
    return list(dict.fromkeys(record.method.name for record in records))


def run_ids(records: Sequence[RunRecord]) -> list[str]:
    """Return the ids of the runs."""
    return [record.run_id for record in records]


def joined(words: Sequence[object], most: int = 5) -> str:
    """Join as `full, lora and ia3`, or as `full, lora and 4 more` if longer than `most`."""
    texts = [str(word) for word in words]
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most} more"
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), *texts[-1:]])
