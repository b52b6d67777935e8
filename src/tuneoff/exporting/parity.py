"""Comparison of an export with the model of its run: logits, labels, metric, shapes and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tuneoff.comparison.bootstrap import PairedPredictions, RunPredictions
from tuneoff.exporting.result import ChangedRow, MetricChange, Parity, Shape, Speed

if TYPE_CHECKING:
    import pandas as pd

    from tuneoff.engine.inference import TextClassifier

Logits = npt.NDArray[np.float32]

BATCH_SIZES = (1, 2, 5, 16)
"""Batch sizes of the grid of shapes."""
LENGTHS = (1, 8, 32, 128, 100_000)
"""Lengths of the grid in words; texts are truncated to the model's limit."""
WORST = 5
"""Number of rows that are listed."""
LATENCY_ROWS = 30
"""Number of single texts that are timed."""
BLOCK = 10
"""Number of single texts that a model predicts in a row. The first one of a block is not counted:
threads of the other model may still spin."""
THROUGHPUT_ROWS = 256
"""Number of texts that are timed in batches."""


class CannotPredict(Exception):
    """An export cannot predict the rows; the message is the reason."""


def compare(
    original: TextClassifier,
    exported: TextClassifier,
    rows: pd.DataFrame,
    *,
    split: str,
    metric: str,
    bound: float,
    lossy: bool,
    recorded: pd.Series[str] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, rows: None,
) -> Parity:
    """Compare an export with the model of its run.

    Args:
        original: The run's model.
        exported: The export.
        rows: Columns `row`, `text`, and as far as known `text_pair`, `label` and `weight`.
        split: Name of the rows in the result.
        metric: Key of the study's metric.
        bound: Limit of the difference, see `Parity.bound`.
        lossy: Whether the bound limits the proportion of changed labels.
        recorded: Labels that the run predicted, by row number.
        progress: Called with the model, the number of rows done, and of all rows.

    Raises:
        CannotPredict: The export has other labels, or fails on the rows.
    """
    if sorted(exported.labels) != sorted(original.labels):
        raise CannotPredict("its labels are not those of the run")
    texts = rows["text"].tolist()
    pairs = rows["text_pair"].tolist() if "text_pair" in rows else None
    order = [exported.labels.index(label) for label in original.labels]
    expected = original.logits(
        texts, pairs, progress=lambda done, all_rows: progress("original", done, all_rows)
    )
    try:
        found = exported.logits(
            texts, pairs, progress=lambda done, all_rows: progress("export", done, all_rows)
        )[:, order]
    except Exception as error:  # of a runtime, whatever its class
        raise CannotPredict(f"it fails on these rows: {_first_line(error)}") from error
    spread = max(float(expected.std()), 1e-6)
    differences = _differences(found, expected, spread)
    before, after = expected.argmax(1), found.argmax(1)
    names = np.array(original.labels, dtype=object)
    worst = np.argsort(-differences, kind="stable")[:WORST]
    numbers = rows["row"].to_numpy()
    changed_from_record = None
    if recorded is not None:
        changed_from_record = int((recorded.loc[numbers].to_numpy() != names[after]).sum())
    return Parity(
        split=split,
        rows=len(rows),
        largest_difference=float(differences.max()),
        changed=int((before != after).sum()),
        changed_from_record=changed_from_record,
        metric=_metric(metric, rows, original.labels, expected, found),
        worst=[
            ChangedRow(int(numbers[i]), float(differences[i]), names[before[i]], names[after[i]])
            for i in worst
        ],
        shapes=list(_shapes(original, exported, order, texts, pairs, spread)),
        **_speeds(original.padded(), exported, texts, pairs),
        bound=bound,
        lossy=lossy,
    )


def _differences(found: Logits, expected: Logits, spread: float) -> npt.NDArray[np.float64]:
    """Return the largest difference of each row, (rows,), as a multiple of `spread`."""
    gaps = np.abs(found.astype(np.float64) - expected).max(1) / spread
    return np.where(np.isfinite(gaps), gaps, np.inf)


def _metric(
    key: str, rows: pd.DataFrame, labels: Sequence[str], expected: Logits, found: Logits
) -> MetricChange | None:
    """Return the change of the study's metric; None for rows without labels."""
    if "label" not in rows:
        return None
    places = {label: place for place, label in enumerate(labels)}
    true = np.array([places[label] for label in rows["label"]], np.int64)
    weights = rows["weight"].to_numpy(np.float64) if "weight" in rows else np.ones(len(rows))
    runs = [_predictions(logits, true, weights) for logits in (expected, found)]
    paired = PairedPredictions.of(runs, len(labels))
    points, draws = paired.scores([key])[key], paired.bootstrap([key])[key]
    low, high = np.quantile(draws[:, 1] - draws[:, 0], [0.025, 0.975])
    before, after = float(points[0]), float(points[1])
    return MetricChange(key, before, after, after - before, float(low), float(high))


def _predictions(
    logits: Logits, true: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> RunPredictions:
    scores = logits.astype(np.float64)
    scores = np.exp(scores - scores.max(1, keepdims=True))
    probabilities = scores / scores.sum(1, keepdims=True)
    every = np.arange(len(true))
    predicted = probabilities.argmax(1).astype(np.int64)
    return RunPredictions(
        every,
        true,
        predicted,
        weights,
        probabilities[every, true],
        probabilities[every, predicted],
    )


def _shapes(
    original: TextClassifier,
    exported: TextClassifier,
    order: Sequence[int],
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    spread: float,
) -> list[Shape]:
    """Compare batches of many sizes and lengths: exporters may treat a dimension as a constant.

    A batch has one text of the length of its cell; the others are shorter, so that they are padded.
    """
    words = " ".join(texts).split() or ["a"]
    found: list[Shape] = []
    for length in LENGTHS:
        for size in BATCH_SIZES:
            counts = [max(1, length * (size - i) // size) for i in range(size)]
            batch = [_cut(words, count, start=7 * i) for i, count in enumerate(counts)]
            seconds = None if pairs is None else [pairs[i % len(pairs)] for i in range(size)]
            tokens = int(exported.lengths(batch, seconds).max())
            try:
                got = exported.logits(batch, seconds, batch_size=size)[:, order]
            except Exception as error:  # of a runtime, whatever its class
                found.append(Shape(size, tokens, None, _first_line(error)))
                continue
            gap = float(_differences(got, original.logits(batch, seconds), spread).max())
            found.append(Shape(size, tokens, gap))
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _cut(words: Sequence[str], count: int, start: int) -> str:
    """Return a text of `count` words, at most those of about 8,000 tokens."""
    count = min(count, 8000)
    return " ".join(words[(start + i) % len(words)] for i in range(count))


def _speeds(
    original: TextClassifier,
    exported: TextClassifier,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
) -> dict[str, Speed]:
    """Time both models in turns of `BLOCK` texts, so that a busy machine slows down both alike."""
    models = {"original_speed": original, "exported_speed": exported}
    count = min(len(texts), LATENCY_ROWS)
    spread = np.linspace(0, len(texts) - 1, count).round().astype(int)
    places = np.random.default_rng(0).permutation(spread)
    single: dict[str, list[float]] = {name: [] for name in models}
    for first in range(0, count, BLOCK):
        block = places[first : first + BLOCK]
        for name, model in models.items():
            for number, place in enumerate([block[0], *block]):
                start = time.perf_counter()
                model.logits([texts[place]], None if pairs is None else [pairs[place]])
                if number:
                    single[name].append(time.perf_counter() - start)
    many = list(texts[:THROUGHPUT_ROWS])
    seconds = None if pairs is None else list(pairs[:THROUGHPUT_ROWS])
    found = {}
    for name, model in models.items():
        start = time.perf_counter()
        model.logits(many, seconds)
        rate = len(many) / (time.perf_counter() - start)
        found[name] = Speed(median(single[name]), rate)
    return found
