"""Batches: texts of a token store, concatenated into one packed row without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuneoff.engine.data.task import Split

CPU_TOKENS, GPU_TOKENS = 2_048, 65_536
"""Tokens per forward pass at inference. On a CPU, the states of 2,048 tokens stay in its caches:
with MiniLM on two cores, 512 reviews take 7.9 s, compared with 9.9 s and three times the memory for
8,192 tokens; 1,600 pairs of SNLI take 2.0 s, compared with 2.4 s."""


@dataclass(frozen=True)
class Batch:
    """Rows of a split without padding, sorted by length."""

    rows: npt.NDArray[np.int64]
    """Positions in the split, of shape (texts,)."""
    lengths: list[int]
    """Number of tokens of each text."""
    input_ids: Tensor
    """Token ids of the concatenated texts, int64 of shape (tokens,)."""
    position_ids: Tensor
    """Position of each token in its text, from 0; int64 of shape (tokens,)."""
    token_type_ids: Tensor | None
    """Token types of pairs, int64 of shape (tokens,)."""
    labels: Tensor
    """Int64 of shape (texts,)."""
    weights: Tensor
    """Float32 of shape (texts,)."""
    states: Tensor | None = None
    """Cached output of the frozen lower layers, of shape (tokens or texts, hidden); None if the
    split has none."""
    offsets: Tensor | None = None
    """Start of each text, and start and end of the spare positions; int32 of shape (texts + 2,).
    Only on a CUDA device: there, `input_ids`, `position_ids` and `token_type_ids` have the shape
    (places,), and only the first `tokens` elements are real."""
    bound: int | None = None
    """Upper bound on the tokens of each text and on the spare positions; None: use `lengths`."""

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return sum(self.lengths)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`; on a CUDA device in the layout of `Staging`."""
        if device.type == "cpu":
            return self
        if device.type == "cuda":
            return Staging.of(self).send(self, device)
        moved: dict[str, Any] = {
            f.name: value.to(device)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


def cuda_places(tokens: int) -> int:
    """Return the size of a packed row on a CUDA device for `tokens` real tokens.

    The row has at least one spare position. Sizes are multiples of 64, and from 2,048 tokens
    multiples of 1/32 to 1/16 of the size. So few different sizes occur, and capturing a CUDA graph
    for each size pays off.
    """
    step = max(64, (1 << tokens.bit_length()) // 32)
    return (tokens // step + 1) * step


@dataclass(frozen=True)
class Staging:
    """Layout of a batch's integers and weights in one block of memory, for a single copy to a GPU.

    A packed row on a GPU has at least one spare position at its end. The spare positions form a
    text of their own, because `varlen_attn` leaves rows after its last offset uninitialised.
    """

    texts: int
    places: int
    types: bool

    @classmethod
    def of(cls, batch: Batch) -> Staging:
        """Return the layout for `batch`."""
        types = batch.token_type_ids is not None
        return cls(len(batch.lengths), cuda_places(batch.tokens), types)

    @property
    def _parts(self) -> list[tuple[str, torch.dtype, int]]:
        """Name, type and number of elements; 8-byte types come first, so all are aligned."""
        types = [("token_type_ids", torch.int64, self.places)] if self.types else []
        return [
            ("input_ids", torch.int64, self.places),
            ("position_ids", torch.int64, self.places),
            *types,
            ("labels", torch.int64, self.texts),
            ("weights", torch.float32, self.texts),
            ("offsets", torch.int32, self.texts + 2),
        ]

    @property
    def bytes(self) -> int:
        """Size of the block in bytes."""
        return sum(dtype.itemsize * count for _, dtype, count in self._parts)

    def views(self, block: Tensor) -> dict[str, Tensor]:
        """Return tensors that share the memory of `block` (uint8), by the names of `Batch`."""
        tensors, start = {}, 0
        for name, dtype, count in self._parts:
            size = dtype.itemsize * count
            tensors[name] = block[start : start + size].view(dtype)
            start += size
        return tensors

    def fill(self, block: Tensor, batch: Batch) -> None:
        """Write `batch` to `block`, a uint8 tensor on the CPU."""
        views = self.views(block)
        for name in ("input_ids", "position_ids", "token_type_ids"):
            if name in views:
                views[name][: batch.tokens] = getattr(batch, name)
                views[name][batch.tokens :] = 0
        views["labels"].copy_(batch.labels)
        views["weights"].copy_(batch.weights)
        ends = np.cumsum([0, *batch.lengths, self.places - batch.tokens])
        views["offsets"].copy_(torch.from_numpy(ends))

    def send(self, batch: Batch, device: torch.device, into: Tensor | None = None) -> Batch:
        """Return `batch` on `device`; the copy is asynchronous.

        PyTorch reuses the pinned memory only after the copy is complete.

        Args:
            batch: A batch on the CPU that this layout fits.
            device: A CUDA device.
            into: Block on `device` (uint8) to copy to; None: allocate one.
        """
        host = torch.empty(self.bytes, dtype=torch.uint8, pin_memory=True)
        self.fill(host, batch)
        if into is None:
            into = torch.empty(self.bytes, dtype=torch.uint8, device=device)
        into.copy_(host, non_blocking=True)
        states = batch.states
        if states is not None and states.device != device:
            states = states.pin_memory().to(device, non_blocking=True)
        views: dict[str, Any] = {**self.views(into)}
        return replace(batch, states=states, **views)


def batch(split: Split, rows: npt.NDArray[np.int64]) -> Batch:
    """Return the rows at the given positions of `split` as a batch, shortest first."""
    store = split.tokens
    rows = rows[np.argsort(store.lengths[rows], kind="stable")]
    lengths = store.lengths[rows]
    ends = np.cumsum(lengths)
    # Token t of the batch is token t - start(text) of its text: one index for ids and types.
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
    """Yield the rows of each optimizer step of one epoch, in random order.

    Args:
        split: The split; each of its `positions` occurs once.
        batch_size: Number of rows per step; the last step may have fewer.
        generator: Draws the order; None: keep the order of the split.
    """
    order = split.positions if generator is None else generator.permutation(split.positions)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def inference_tokens(device: torch.device) -> int:
    """Return the number of tokens per forward pass at inference."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def by_tokens(
    lengths: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], budget: int
) -> list[npt.NDArray[np.int64]]:
    """Split `rows`, sorted by length, into batches of at most `budget` tokens.

    The number of batches is the minimum for this order. With this number, the batches are as equal
    in size as possible, which needs less memory than full batches and a small last one. A row with
    more than `budget` tokens is a batch of its own.

    Args:
        lengths: Number of tokens of each row of the split, of shape (all rows,).
        rows: Positions in the split, of shape (rows,).
        budget: Maximum number of tokens of a batch.
    """
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    ends = np.cumsum(lengths[rows])
    cuts = _filled(ends, budget)
    low = -(-int(ends[-1]) // (len(cuts) + 1)) if len(rows) else 0
    while low < budget:  # bisect for the smallest budget that needs no more batches
        middle = (low + budget) // 2
        if len(smaller := _filled(ends, middle)) == len(cuts):
            cuts, budget = smaller, middle
        else:
            low = middle + 1
    return np.split(rows, cuts)


def _filled(ends: npt.NDArray[np.int64], budget: int) -> list[int]:
    """Return the starts of all batches but the first, if each is filled up to `budget` tokens."""
    cuts: list[int] = []
    start = used = 0
    while True:
        start = max(int(np.searchsorted(ends, used + budget, side="right")), start + 1)
        if start >= len(ends):
            return cuts
        cuts.append(start)
        used = int(ends[start - 1])


def count_tokens(split: Split, rows: Sequence[npt.NDArray[np.int64]]) -> int:
    """Return the number of real tokens in the given rows."""
    return int(sum(split.tokens.lengths[r].sum() for r in rows))
