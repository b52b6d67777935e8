"""Held-out fractions and subsamples: stratified, grouped and deterministic for a given seed.

The computation is vectorised, so a million rows take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.exceptions import BadInput, Issue

IntArray = npt.NDArray[np.int64]
Purpose = Literal["test", "validation", "max_train", "max_test"]

_STREAMS: dict[Purpose, int] = {"test": 0, "validation": 1, "max_train": 2, "max_test": 3}
"""A separate random stream for each draw, so that one setting does not affect other draws."""


def label_order(labels: Sequence[str]) -> list[str]:
    """Return the distinct labels, sorted: as numbers if all are integers, otherwise as strings."""
    distinct = sorted(set(labels))
    try:
        return sorted(distinct, key=int)
    except ValueError:
        return distinct


def text_codes(*frames: pd.DataFrame) -> list[IntArray]:
    """Return codes of the texts: rows with the same text (and pair) have the same number.

    Args:
        frames: Tables; the codes are consistent across all of them.

    Returns:
        For each table an array of shape (rows,).
    """
    joined = pd.concat([frame[_text_columns(frame)] for frame in frames], ignore_index=True)
    codes = _codes(joined["text"])
    if "text_pair" in joined:
        pairs = _codes(joined["text_pair"])
        codes = _codes(codes * (pairs.max(initial=0) + 1) + pairs)
    return np.split(codes, np.cumsum([len(frame) for frame in frames])[:-1])


def components(frame: pd.DataFrame) -> IntArray:
    """Return the components of the rows: rows that must be in the same split.

    Rows are connected if they have the same text (and pair) or, with a `group` column, the same
    group; also indirectly, through other rows. An empty group connects no rows.

    Returns:
        The number of each row's component, of shape (rows,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    (texts,) = text_codes(frame)
    if "group" not in frame:
        return texts
    grouped = (frame["group"] != "").to_numpy(bool)
    groups = _codes(frame["group"][grouped]) + texts.max(initial=0) + 1
    nodes = max(texts.max(initial=0), groups.max(initial=0)) + 1
    edges = coo_array((np.ones(len(groups), np.int8), (texts[grouped], groups)), (nodes, nodes))
    _, component = connected_components(edges, directed=False)
    return _codes(component[texts])


def hold_out(
    frame: pd.DataFrame, fraction: float, *, seed: int, purpose: Purpose
) -> npt.NDArray[np.bool_]:
    """Choose rows to hold out, close to `fraction` of all rows and of the rows of each label.

    Components are never split, so with large components the result may differ from `fraction`.
    Every label keeps at least one row that is not held out.

    Args:
        frame: The rows.
        fraction: Fraction of the rows to hold out.
        seed: Seed of the draw.
        purpose: What the rows are drawn for; each purpose has its own random stream.

    Returns:
        Mask of shape (rows,), true for the rows that are held out.

    Raises:
        BadInput: No row can be held out.
    """
    component = components(frame)
    labels = _codes(frame["label"], sort=True)
    sizes = np.bincount(component)
    pairs, counts = np.unique(component * (labels.max() + 1) + labels, return_counts=True)
    owner, label = np.divmod(pairs, labels.max() + 1)
    # A component counts for its most frequent label. With groups of mixed labels, exact
    # stratification is a knapsack problem; this is a good approximation.
    by_owner = np.lexsort((label, -counts, owner))
    primary = label[by_owner][np.unique(owner[by_owner], return_index=True)[1]]
    targets = allocate(
        np.bincount(primary, weights=sizes).astype(np.int64), max(1, round(fraction * len(frame)))
    )
    rng = _generator(seed, purpose)
    order = rng.permutation(len(sizes))
    held = _fill(primary, sizes, targets, order)
    # All components of a label may be held out if it has few or large ones: keep the smallest.
    for lost in _lost_labels(held, owner, label):
        mine = owner[label == lost]
        if held[mine].all():  # not yet kept because of another label
            held[mine[np.argmin(sizes[mine])]] = False
    if not held.any():
        held[_smallest_free(owner, label, counts, sizes, order, purpose)] = True
    mask: npt.NDArray[np.bool_] = held[component]
    return mask


def subsample(
    frame: pd.DataFrame, rows: int, *, seed: int, purpose: Purpose, least: int = 1
) -> pd.DataFrame:
    """Draw a subsample of `rows` rows, stratified by label, in the order of `frame`.

    A table with no more than `rows` rows is returned unchanged.

    Args:
        frame: The rows.
        rows: Number of rows to draw.
        seed: Seed of the draw.
        purpose: What the rows are drawn for; each purpose has its own random stream.
        least: Minimum number of rows of each label, if `rows` is large enough for all labels.
    """
    if len(frame) <= rows:
        return frame
    labels = _codes(frame["label"], sort=True)
    targets = allocate(np.bincount(labels), rows, least=least)
    order = _generator(seed, purpose).permutation(len(frame))
    held = _fill(labels, np.ones(len(frame), np.int64), targets, order)
    return frame[held].reset_index(drop=True)


def allocate(counts: IntArray, total: int, *, least: int = 0) -> IntArray:
    """Distribute `total` rows over the labels in proportion to `counts` (largest remainders).

    A label gets at least `least` rows, or all of its rows, if `total` is large enough.

    Args:
        counts: Number of rows of each label, of shape (labels,).
        total: Number of rows to distribute.
        least: Minimum number of rows of each label.

    Returns:
        Rows to take of each label, of shape (labels,).
    """
    total = min(total, int(counts.sum()))
    floor = np.minimum(counts, least)
    if floor.sum() > total:
        floor = np.zeros_like(counts)
    small = np.zeros(len(counts), bool)
    while True:  # terminates, because each round marks at least one more label as small
        rest = np.where(small, 0, counts)
        quota = rest * ((total - floor[small].sum()) / max(1, rest.sum()))
        too_low = ~small & (quota < floor)
        if not too_low.any():
            break
        small |= too_low
    shares = np.where(small, floor, np.floor(quota + 1e-9)).astype(np.int64)
    fraction = np.where(small | (shares >= counts), -1.0, quota - shares)
    shares[np.argsort(-fraction, kind="stable")[: total - shares.sum()]] += 1
    return shares


def _fill(
    strata: IntArray, sizes: IntArray, targets: IntArray, order: IntArray
) -> npt.NDArray[np.bool_]:
    """Take items in `order` from each stratum until its target number of rows is reached.

    An item is taken if that brings the sum closer to the target. Items of more than twice the
    target come last, because they would block the others.

    Args:
        strata: Stratum of each item, of shape (items,).
        sizes: Number of rows of each item, of shape (items,).
        targets: Number of rows to take from each stratum, of shape (strata,).
        order: Permutation of the items.

    Returns:
        Mask of the items that are taken, of shape (items,).
    """
    too_large = sizes > 2 * targets[strata]
    order = order[np.lexsort((too_large[order], strata[order]))]
    stratum, size = strata[order], sizes[order]
    first = np.flatnonzero(np.diff(stratum, prepend=-1))
    before = np.cumsum(size) - size
    before = before - np.repeat(before[first], np.diff(first, append=len(stratum)))
    take = before + size / 2 <= targets[stratum]
    taken = np.zeros(len(sizes), bool)
    taken[order[take]] = True
    return taken


def _lost_labels(held: npt.NDArray[np.bool_], owner: IntArray, label: IntArray) -> IntArray:
    """Return the labels whose components are all held out."""
    return np.setdiff1d(label, label[~held[owner]])


def _smallest_free(
    owner: IntArray,
    label: IntArray,
    counts: IntArray,
    sizes: IntArray,
    order: IntArray,
    purpose: Purpose,
) -> int:
    """Return the smallest component that can be held out without losing all rows of a label.

    Among components of the same size this is the first in `order`.
    """
    free = np.ones(len(sizes), bool)
    free[owner[counts == np.bincount(label, weights=counts)[label]]] = False
    candidates = order[free[order]]
    if not len(candidates):
        raise BadInput(
            Issue(
                f"no row can be held out for {purpose}: rows with the same group or text must stay"
                " together, and each such set of rows contains all rows of some label",
                hint=f"Add rows, or give {purpose} as a file.",
            )
        )
    return int(candidates[np.argmin(sizes[candidates])])


def _codes(values: Any, *, sort: bool = False) -> IntArray:
    codes: IntArray = pd.factorize(values, sort=sort)[0].astype(np.int64)
    return codes


def _text_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in ("text", "text_pair") if name in frame]


def _generator(seed: int, purpose: Purpose) -> np.random.Generator:
    return np.random.default_rng([seed % 2**63, _STREAMS[purpose]])
