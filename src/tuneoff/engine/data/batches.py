"""Rows of a token store as the model takes them: joined into one row, lengths beside."""

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
    offsets: Tensor | None = None
    """(texts + 2,) int32, on a CUDA device alone: where each text begins, where the spare places
    begin and where they end. `input_ids`, `position_ids` and `token_type_ids` then have (places,)
    elements, of which the first `tokens` are real."""
    bound: int | None = None
    """No text has more tokens, nor are there more spare places; None: as `lengths` says."""

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return sum(self.lengths)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`; on a CUDA device as `Staging` lays it out."""
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
    """Size of a packed row on a CUDA device that holds `tokens` real tokens and one spare place.

    Few different sizes occur, so that a CUDA graph per size is worth its capture: multiples of 64,
    from 2,048 tokens on of 1/16 to 1/32 of the size.
    """
    step = max(64, (1 << tokens.bit_length()) // 32)
    return (tokens // step + 1) * step


@dataclass(frozen=True)
class Staging:
    """Layout of a batch's integers and weights as one block of memory, for one copy to a GPU.

    A packed row on a GPU has spare places at its end. They are a text of their own, because
    `varlen_attn` leaves rows beyond its last offset uninitialised; there is always at least one.
    """

    texts: int
    places: int
    types: bool

    @classmethod
    def of(cls, batch: Batch) -> Staging:
        """The layout for `batch`."""
        types = batch.token_type_ids is not None
        return cls(len(batch.lengths), cuda_places(batch.tokens), types)

    @property
    def _parts(self) -> list[tuple[str, torch.dtype, int]]:
        """Name, type and number of elements; 8-byte types first, so that all are aligned."""
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
        """Size of the block."""
        return sum(dtype.itemsize * count for _, dtype, count in self._parts)

    def views(self, block: Tensor) -> dict[str, Tensor]:
        """Tensors by the names of `Batch`'s fields that share the memory of `block`, uint8."""
        found, at = {}, 0
        for name, dtype, count in self._parts:
            size = dtype.itemsize * count
            found[name] = block[at : at + size].view(dtype)
            at += size
        return found

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
        """Return `batch` on `device`, copied without waiting; to `into`, a block there, if given.

        PyTorch reuses the pinned memory only after the copy has ended.
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


def count_tokens(split: Split, rows: Sequence[npt.NDArray[np.int64]]) -> int:
    """Real tokens in these rows."""
    return int(sum(split.tokens.lengths[r].sum() for r in rows))
