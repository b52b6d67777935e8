"""Statistics of the data for the report, as records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.engine.data.check import duplicate_count
from tuneoff.results.record import Quantiles, SplitRecord

BINS = 40
"""Maximum number of bins of a length histogram."""

Lengths = npt.NDArray[np.integer[Any]]


def quantiles(lengths: Lengths) -> Quantiles:
    """Return quantiles of token counts, which must not be empty; `lengths` has shape (rows,)."""
    q25, median, q75, q95, q99 = (
        float(value) for value in np.quantile(lengths, [0.25, 0.5, 0.75, 0.95, 0.99])
    )
    return Quantiles(
        least=int(lengths.min()),
        q25=q25,
        median=median,
        q75=q75,
        q95=q95,
        q99=q99,
        most=int(lengths.max()),
        mean=float(lengths.mean()),
    )


def histogram(lengths: Lengths) -> list[list[int]]:
    """Return a histogram of token counts with bins of equal width.

    Args:
        lengths: Token counts, of shape (rows,).

    Returns:
        A pair [lowest token count, number of rows] for each bin, also for empty ones.
    """
    least = int(lengths.min())
    width = -(-(int(lengths.max()) - least + 1) // BINS)
    counts = np.bincount((lengths.astype(np.int64) - least) // width)
    return [[least + i * width, int(count)] for i, count in enumerate(counts)]


def split_record(
    frame: pd.DataFrame, labels: Sequence[str], lengths: Lengths, max_length: int
) -> SplitRecord:
    """Return the statistics of one split.

    Args:
        frame: Rows of the split.
        labels: Label set of the study.
        lengths: Token counts before truncation, of shape (rows,).
        max_length: Number of tokens to which texts are truncated.
    """
    counts = frame["label"].value_counts()
    over = np.maximum(lengths.astype(np.int64) - max_length, 0)
    tokens = int(lengths.sum(dtype=np.int64))
    return SplitRecord(
        rows=len(frame),
        label_counts={label: int(counts.get(label, 0)) for label in labels},
        lengths=quantiles(lengths),
        length_histogram=histogram(lengths),
        cut_rows=int((over > 0).sum()),
        cut_tokens_share=float(over.sum() / tokens) if tokens else 0.0,
        duplicate_rows=duplicate_count(frame),
        **_groups(frame),
    )


def _groups(frame: pd.DataFrame) -> dict[str, int]:
    """Return the group counts of a split; empty without a group column."""
    if "group" not in frame:
        return {}
    sizes = frame["group"][frame["group"] != ""].value_counts()
    return {
        "groups": len(sizes),
        "largest_group": int(sizes.max()) if len(sizes) else 0,
        "ungrouped_rows": len(frame) - int(sizes.sum()),
    }


def lengths_by_label(
    frame: pd.DataFrame, labels: Sequence[str], lengths: Lengths
) -> dict[str, Quantiles]:
    """Return quantiles of the token counts for each label that has rows."""
    own = frame["label"].to_numpy()
    return {label: quantiles(lengths[own == label]) for label in labels if (own == label).any()}
