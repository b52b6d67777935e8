"""Fractions held out and subsamples drawn: stratified, grouped, the same at the same seed.

All of it works on whole arrays, so that a million rows take seconds.
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
"""One random stream for each draw, so that asking for one does not change another."""


def label_order(labels: Sequence[str]) -> list[str]:
    """Distinct labels in the order of their positions: as numbers if all are integers."""
    distinct = sorted(set(labels))
    try:
        return sorted(distinct, key=int)
    except ValueError:
        return distinct


def text_codes(*frames: pd.DataFrame) -> list[IntArray]:
    """For each frame (rows,): the same number for the same text (and pair), over all frames."""
    joined = pd.concat([frame[_text_columns(frame)] for frame in frames], ignore_index=True)
    codes = _codes(joined["text"])
    if "text_pair" in joined:
        pairs = _codes(joined["text_pair"])
        codes = _codes(codes * (pairs.max(initial=0) + 1) + pairs)
    return np.split(codes, np.cumsum([len(frame) for frame in frames])[:-1])


def components(frame: pd.DataFrame) -> IntArray:
    """(rows,): the same number for rows that must stay together.

    Those are rows of the same text (and pair) and, with a `group` column, of the same group, also
    through others. A row with the empty group belongs to none.
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
    """(rows,): True for the rows held out, close to `fraction` of all and of each label.

    Components stay whole, so with large ones the share can miss `fraction`; every label keeps a
    row on the other side. Raises `BadInput` if nothing can be held out.
    """
    component = components(frame)
    labels = _codes(frame["label"], sort=True)
    sizes = np.bincount(component)
    pairs, counts = np.unique(component * (labels.max() + 1) + labels, return_counts=True)
    owner, label = np.divmod(pairs, labels.max() + 1)
    # A component counts for its most frequent label: with groups that mix labels, stratifying
    # exactly is a knapsack problem, and this comes close.
    by_owner = np.lexsort((label, -counts, owner))
    primary = label[by_owner][np.unique(owner[by_owner], return_index=True)[1]]
    targets = allocate(
        np.bincount(primary, weights=sizes).astype(np.int64), max(1, round(fraction * len(frame)))
    )
    rng = _generator(seed, purpose)
    order = rng.permutation(len(sizes))
    held = _fill(primary, sizes, targets, order)
    # A label with few or large components may be gone from the other side: bring one back.
    for lost in _lost_labels(held, owner, label):
        mine = owner[label == lost]
        if held[mine].all():  # not yet brought back together with another label
            held[mine[np.argmin(sizes[mine])]] = False
    if not held.any():
        held[_smallest_free(owner, label, counts, sizes, order, purpose)] = True
    mask: npt.NDArray[np.bool_] = held[component]
    return mask


def subsample(
    frame: pd.DataFrame, rows: int, *, seed: int, purpose: Purpose, least: int = 1
) -> pd.DataFrame:
    """`rows` rows of `frame` in their order, stratified by label; all if there are no more.

    Every label keeps `least` rows where `rows` allows it.
    """
    if len(frame) <= rows:
        return frame
    labels = _codes(frame["label"], sort=True)
    targets = allocate(np.bincount(labels), rows, least=least)
    order = _generator(seed, purpose).permutation(len(frame))
    held = _fill(labels, np.ones(len(frame), np.int64), targets, order)
    return frame[held].reset_index(drop=True)


def allocate(counts: IntArray, total: int, *, least: int = 0) -> IntArray:
    """(labels,): `total` rows shared out in proportion to `counts`, by the largest remainders.

    A label gets at least `least` rows, or all that it has, if `total` suffices for that.
    """
    total = min(total, int(counts.sum()))
    floor = np.minimum(counts, least)
    if floor.sum() > total:
        floor = np.zeros_like(counts)
    small = np.zeros(len(counts), bool)
    while True:  # ends: each round marks at least one more label as small
        rest = np.where(small, 0, counts)
        quota = rest * ((total - floor[small].sum()) / max(1, rest.sum()))
        slipped = ~small & (quota < floor)
        if not slipped.any():
            break
        small |= slipped
    shares = np.where(small, floor, np.floor(quota + 1e-9)).astype(np.int64)
    fraction = np.where(small | (shares >= counts), -1.0, quota - shares)
    shares[np.argsort(-fraction, kind="stable")[: total - shares.sum()]] += 1
    return shares


def _fill(
    strata: IntArray, sizes: IntArray, targets: IntArray, order: IntArray
) -> npt.NDArray[np.bool_]:
    """(items,): items taken in `order` within their stratum until its target of rows is met.

    An item is taken if that brings the sum nearer to the target. Items of more than twice the
    target come last, for they would block the others.
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
    """Labels of which every component is held out."""
    return np.setdiff1d(label, label[~held[owner]])


def _smallest_free(
    owner: IntArray,
    label: IntArray,
    counts: IntArray,
    sizes: IntArray,
    order: IntArray,
    purpose: Purpose,
) -> int:
    """The smallest component without which every label still has a row; the first in `order`."""
    free = np.ones(len(sizes), bool)
    free[owner[counts == np.bincount(label, weights=counts)[label]]] = False
    candidates = order[free[order]]
    if not len(candidates):
        raise BadInput(
            Issue(
                f"no row can be held out for {purpose}: the rows hang together by groups or equal"
                " texts, and every part is all that a label has",
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
