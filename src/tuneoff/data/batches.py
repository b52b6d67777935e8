"""Rows of a token store as the model takes them: joined into one row, lengths beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuneoff.data.task import Split

CPU_TOKENS, GPU_TOKENS = 2_048, 65_536
"""Tokens per forward pass where nothing is trained. On a CPU, states that stay in its caches: with
MiniLM on two cores 512 reviews take 7.9 s, where 8,192 tokens at once take 9.9 s and three times
the memory; 1,600 pairs of SNLI 2.0 s and 2.4 s."""


@dataclass(frozen=True)
class Batch:
    """Some rows of a split, without padding, in the order of their lengths."""

    rows: npt.NDArray[np.int64]
    """(texts,) positions in the split."""
    lengths: list[int]
    """Tokens of each text."""
    input_ids: Tensor
    """(tokens,) int64: the texts' ids, one text after the other."""
    position_ids: Tensor
    """(tokens,) int64, from 0 in each text."""
    token_type_ids: Tensor | None
    """(tokens,) int64, for pairs."""
    labels: Tensor
    """(texts,) int64."""
    weights: Tensor
    """(texts,) float32."""
    states: Tensor | None = None
    """(tokens or texts, hidden) what the frozen layers below give, where the split has it."""

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return len(self.input_ids)

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; pinned memory would copy without waiting, a few KB need none."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            f.name: value.to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


def batch(split: Split, rows: npt.NDArray[np.int64]) -> Batch:
    """The rows at these positions of `split`, shortest first."""
    store = split.tokens
    rows = rows[np.argsort(store.lengths[rows], kind="stable")]
    lengths = store.lengths[rows]
    ends = np.cumsum(lengths)
    # Token t of the batch is token t - begin(text) of its text: one index for ids and types.
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    index = positions + np.repeat(store.offsets[rows], lengths)
    return Batch(
        rows=rows,
        lengths=lengths.tolist(),
        input_ids=torch.from_numpy(store.ids[index].astype(np.int64)),
        position_ids=torch.from_numpy(positions),
        token_type_ids=None
        if store.type_ids is None
        else torch.from_numpy(store.type_ids[index].astype(np.int64)),
        labels=torch.from_numpy(split.labels[rows]),
        weights=torch.from_numpy(split.weights[rows]),
        states=None if split.states is None else split.states.read(rows),
    )


def steps(
    split: Split, batch_size: int, generator: np.random.Generator | None
) -> Iterator[npt.NDArray[np.int64]]:
    """One epoch: the rows of each optimizer step, every chosen row once, in a new order.

    Without a generator as they stand.
    """
    order = split.positions if generator is None else generator.permutation(split.positions)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def inference_tokens(device: torch.device) -> int:
    """Tokens per forward pass where nothing is trained."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def by_tokens(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], budget: int
) -> list[npt.NDArray[np.int64]]:
    """`rows` in as few pieces of at most `budget` tokens (one row at least) as their order allows,
    similar lengths together, no piece larger than it need be for that."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    ends = np.cumsum(lengths[rows])
    cuts = _filled(ends, budget)
    low = -(-int(ends[-1]) // (len(cuts) + 1)) if len(rows) else 0
    while low < budget:  # pieces of one size take less memory than full ones and a rest
        middle = (low + budget) // 2
        if len(found := _filled(ends, middle)) == len(cuts):
            cuts, budget = found, middle
        else:
            low = middle + 1
    return np.split(rows, cuts)


def _filled(ends: npt.NDArray[np.int64], budget: int) -> list[int]:
    """Where pieces begin, but the first one, if each takes what `budget` has room for."""
    cuts: list[int] = []
    start = used = 0
    while True:
        start = max(int(np.searchsorted(ends, used + budget, side="right")), start + 1)
        if start >= len(ends):
            return cuts
        cuts.append(start)
        used = int(ends[start - 1])


def share(rows: npt.NDArray[np.int64], index: int, count: int) -> npt.NDArray[np.int64]:
    """The part of a step's rows that process `index` of `count` computes."""
    return rows[index::count]


def count_tokens(split: Split, rows: Sequence[npt.NDArray[np.int64]]) -> int:
    """Real tokens in these rows."""
    return int(sum(split.tokens.lengths[r].sum() for r in rows))
