"""Predictions of several runs on the same test rows, and a paired bootstrap of their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tuneoff.results.metrics import QUALITY_METRICS, Counts, Floats, Integers, RowPredictions

if TYPE_CHECKING:
    import pandas as pd

RowIds = npt.NDArray[np.int64] | npt.NDArray[np.str_]

BLOCK = 2**20
"""Row weights in memory at a time: 8 MiB, and as much again for the resampled rows."""


@dataclass(frozen=True)
class RunPredictions:
    """Predictions of one run on the test split: `n` rows in the order of their ids."""

    rows: RowIds
    """(n,) unique ids of the rows: integers or strings."""
    labels: Integers
    """(n,) indices of the true labels in the study's label set."""
    predictions: Integers
    """(n,) indices of the predicted labels."""
    weights: Floats
    """(n,) weight of each row in a score; 1 if the data have no weights."""
    of_true: Floats | None = None
    """(n,) probability of the true label; None without probabilities."""
    confidence: Floats | None = None
    """(n,) largest probability of the row."""
    groups: Integers | None = None
    """(n,) group numbers, equal for rows of one group; None if no two rows share a group."""

    @staticmethod
    def from_table(
        table: pd.DataFrame,
        labels: Sequence[str],
        groups: Mapping[Hashable, str] | None = None,
    ) -> RunPredictions:
        """Read the test rows of a `predictions.parquet`.

        Args:
            table: Content of the file.
            labels: The study's label set.
            groups: Group of each test row by row number, "" for none.

        Raises:
            ValueError: If a row occurs twice, or a label is not in the label set.
        """
        import pandas as pd

        table = table[table["split"] == "test"]
        rows = _row_ids(table["row"])
        order = np.argsort(rows)
        table, rows = table.iloc[order], rows[order]
        if len(np.unique(rows)) < len(rows):
            raise ValueError("a test row occurs twice")
        codes = {}
        for column in ("label", "prediction"):
            values = table[column].astype(str)
            codes[column] = pd.Index(list(labels)).get_indexer(pd.Index(values)).astype(np.int64)
            if (codes[column] < 0).any():
                unknown = values[codes[column] < 0].iloc[0]
                raise ValueError(f"{column} {unknown!r} is not in the study's label set")
        weights = table["weight"] if "weight" in table else np.ones(len(table))
        of_true = confidence = None
        columns = [f"probability_{label}" for label in labels]
        if set(columns) <= set(table.columns):
            probabilities = table[columns].to_numpy(np.float64)
            of_true = probabilities[np.arange(len(table)), codes["label"]]
            confidence = probabilities.max(1)
        return RunPredictions(
            rows,
            codes["label"],
            codes["prediction"],
            np.asarray(weights, np.float64),
            of_true,
            confidence,
            None if groups is None else _codes([groups.get(row, "") for row in rows.tolist()]),
        )

    def take(self, rows: RowIds) -> RunPredictions:
        """Select rows by their ids, all of which must exist."""
        if np.array_equal(rows, self.rows):
            return self
        place = np.searchsorted(self.rows, rows)
        return RunPredictions(
            rows,
            self.labels[place],
            self.predictions[place],
            self.weights[place],
            None if self.of_true is None else self.of_true[place],
            None if self.confidence is None else self.confidence[place],
            None if self.groups is None else self.groups[place],
        )


@dataclass(frozen=True)
class PairedPredictions:
    """Predictions of `r` runs on the same `n` rows."""

    labels: Integers
    """(n,) indices of the true labels."""
    weights: Floats
    """(n,) weights of the rows."""
    predictions: Integers
    """(r, n) indices of the predicted labels."""
    label_count: int
    """Size of the study's label set. Macro averages only include labels that occur in the rows."""
    of_true: Floats | None = None
    """(r, n) probability of the true label."""
    confidence: Floats | None = None
    """(r, n) largest probability of each row."""
    groups: Integers | None = None
    """(n,) group numbers in [0, clusters); rows with the same number are drawn together."""

    @property
    def clusters(self) -> int:
        """Number of groups that the bootstrap draws from; a row without a group is its own one."""
        return len(self.labels) if self.groups is None else int(self.groups.max()) + 1

    @property
    def digest(self) -> bytes:
        """Hash of the labels in row order (8 bytes), used as the seed of all draws."""
        return hashlib.sha256(self.labels.tobytes()).digest()[:8]

    @staticmethod
    def of(runs: Sequence[RunPredictions], label_count: int) -> PairedPredictions:
        """Combine the rows that all `runs` have in common.

        Args:
            runs: Predictions of each run.
            label_count: Size of the study's label set.

        Raises:
            ValueError: If there are no common rows, or if the runs have different true labels or
                weights for a row, because they were then tested on different data.
        """
        rows = runs[0].rows
        for run in runs[1:]:
            if not np.array_equal(rows, run.rows):
                rows = np.intersect1d(rows, run.rows, assume_unique=True)
        if not len(rows):
            raise ValueError("they have no test row in common")
        taken = [run.take(rows) for run in runs]
        first = taken[0]
        if any(not np.array_equal(first.labels, run.labels) for run in taken[1:]):
            raise ValueError("they have different true labels for the same test row")
        if any(not np.allclose(first.weights, run.weights) for run in taken[1:]):
            raise ValueError("they have different weights for the same test row")
        return PairedPredictions(
            first.labels,
            first.weights,
            np.stack([run.predictions for run in taken]),
            label_count,
            _stacked([run.of_true for run in taken]),
            _stacked([run.confidence for run in taken]),
            next((_numbered(run.groups) for run in taken if run.groups is not None), None),
        )

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(r, n) whether a run predicts the true label."""
        correct: npt.NDArray[np.bool_] = self.predictions == self.labels
        return correct

    def metrics(self, wanted: Collection[str]) -> list[str]:
        """Return the metrics of `wanted` that can be computed, in the same order."""
        return [
            key
            for key in wanted
            if QUALITY_METRICS[key].of_counts is not None or self.of_true is not None
        ]

    def scores(self, metrics: Sequence[str]) -> dict[str, Floats]:
        """Return the (r,) scores of the runs by metric, defined as in the runs' records."""
        found = _Counting(self, metrics).scores(np.ones((len(self.labels), 1)))
        return {key: values[0] for key, values in found.items()}

    def bootstrap(self, metrics: Sequence[str], draws: int = 2000) -> dict[str, Floats]:
        """Resample the test rows and return the scores of all runs.

        Each draw has `n` rows, drawn with replacement. If rows belong to groups, whole groups are
        drawn instead: the cluster bootstrap (Field and Welsh 2007, Bootstrapping clustered data,
        Journal of the Royal Statistical Society B 69; Cameron, Gelbach and Miller 2008,
        Bootstrap-based improvements for inference with clustered errors, Review of Economics and
        Statistics 90).

        A draw has the same rows for all runs, so two columns are a paired sample. The seed depends
        on the rows and their labels only, so a test set has the same draws for all methods. Takes
        about draws x n x r x 3 ns and 30 MB.

        Args:
            metrics: Keys of the metrics.
            draws: Number of bootstrap samples.

        Returns:
            (draws, r) scores by metric.
        """
        counting = _Counting(self, metrics)
        parts = [counting.scores(weights) for weights in self._draws(draws)]
        return {key: np.concatenate([part[key] for part in parts]) for key in metrics}

    def _draws(self, draws: int) -> Iterator[Floats]:
        """Yield how often each draw contains each row: (n, draws), in blocks of draws."""
        n = self.clusters
        random = np.random.default_rng(int.from_bytes(self.digest, "little"))
        step = max(1, min(draws, BLOCK // len(self.labels)))
        for start in range(0, draws, step):
            size = min(step, draws - start)
            drawn = random.integers(0, n, (n, size), dtype=np.int64)
            drawn *= size
            drawn += np.arange(size)
            times = np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size)
            yield (times if self.groups is None else times[self.groups]).astype(np.float64)


class _Counting:
    """Sums over rows for the metrics, as sparse products with the row weights.

    A row adds to the count of one label in each run, so the matrices have r x n non-zero entries
    rather than r x n x labels.
    """

    def __init__(self, panel: PairedPredictions, metrics: Sequence[str]) -> None:
        self.panel, self.metrics = panel, [QUALITY_METRICS[key] for key in metrics]
        self.runs, self.labels = len(panel.predictions), panel.label_count
        runs, labels = self.runs, self.labels
        place = np.arange(runs)[:, None] * labels + panel.predictions
        once = np.broadcast_to(panel.weights, panel.predictions.shape)
        self.predicted = _grouped(place, once, runs * labels)
        self.hits = _grouped(place, once * panel.correct, runs * labels)
        self.true = _grouped(panel.labels[None], panel.weights[None], labels)
        self.sums: dict[str, tuple[Any, int]] = {}
        """For each metric of probabilities, the matrix that sums its values by run and bin, and
        the number of bins."""
        for metric in self.metrics:
            if metric.of_rows is not None:
                assert panel.of_true is not None
                assert panel.confidence is not None
                rows = RowPredictions(panel.of_true, panel.confidence, panel.correct)
                found = metric.of_rows(rows)
                bins = np.zeros(place.shape, np.int64) if found.bins is None else found.bins
                groups = bins + np.arange(runs)[:, None] * found.bin_count
                sums = _grouped(groups, once * found.values, runs * found.bin_count)
                self.sums[metric.key] = sums, found.bin_count

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Return the (b, r) scores by metric for (n, b) row weights."""
        b = weights.shape[1]
        true = (self.true @ weights)[None]  # (1, labels, b)
        counted = {m.key: m.of_counts for m in self.metrics if m.of_counts is not None}
        found: dict[str, Floats] = {}
        if set(counted) == {"accuracy"}:  # five times as fast as the general case
            right = self.panel.correct * self.panel.weights
            found["accuracy"] = right @ weights / true.sum(1)
        elif counted:
            hits = (self.hits @ weights).reshape(self.runs, self.labels, b)
            predicted = (self.predicted @ weights).reshape(self.runs, self.labels, b)
            counts = Counts(hits, predicted, true)
            found = {key: definition(counts) for key, definition in counted.items()}
        for key, (sums, bins) in self.sums.items():
            by_bin = (sums @ weights).reshape(self.runs, bins, b)
            found[key] = np.abs(by_bin).sum(1) / true.sum(1)
        return {metric.key: found[metric.key].T for metric in self.metrics}


def _grouped(groups: Integers, values: Floats, count: int) -> Any:
    """Return a (count, n) sparse matrix that sums (k, n) `values` by (k, n) `groups`."""
    from scipy.sparse import csr_array

    rows = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
    kept = values.ravel() != 0
    entries = (values.ravel()[kept], (groups.ravel()[kept], rows.ravel()[kept]))
    return csr_array(entries, shape=(count, groups.shape[1]))


def _row_ids(column: pd.Series[Any]) -> RowIds:
    """Return the ids as integers if the column has an integer type, otherwise as strings."""
    from pandas.api.types import is_integer_dtype

    if is_integer_dtype(column.dtype):
        return column.to_numpy(np.int64)
    return np.array(column.astype(str).tolist(), np.str_)


def _codes(names: Sequence[str]) -> Integers | None:
    """Number the groups, and rows without a group on their own; None if no two rows share one."""
    known: dict[str | int, int] = {}
    own = [known.setdefault(name or place, len(known)) for place, name in enumerate(names)]
    return np.array(own, np.int64) if len(known) < len(own) else None


def _numbered(groups: Integers) -> Integers:
    """Renumber the groups from 0."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _stacked(parts: Sequence[Floats | None]) -> Floats | None:
    known = [part for part in parts if part is not None]
    return np.stack(known) if len(known) == len(parts) else None
