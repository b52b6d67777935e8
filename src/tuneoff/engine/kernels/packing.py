"""Layout of a packed row: positions of the texts, and groups and pieces for attention.

Texts of similar lengths form a group, padded to its longest text. A group is computed in pieces
that fit in the processor's cache. Padding, further groups and further pieces all cost time; the
layout minimises the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Cost of one more group, or one more piece of a group, in query-key pairs of padding (0.4 ms per
# layer).
_GROUP_COST = 12_000

# The same on a GPU without a varlen kernel: a group takes about ten kernel launches (0.05 ms),
# in which a T4 computes this many pairs of twelve heads.
_GPU_GROUP_COST = 300_000

# Cost of a padded row, in query-key pairs: it is copied several times.
_ROW_COST = 32

# Query-key pairs per piece: 2 MB in bf16 with twelve heads, the size of a core's L2 cache.
_PIECE = 83_000


@dataclass(frozen=True)
class Group:
    """Adjacent texts of a packed row that attention pads to `longest` and computes together."""

    start: int
    """Position of the group's first token in the row."""
    tokens: int
    """Number of tokens, without padding."""
    texts: int
    """Number of texts."""
    longest: int
    """Length that all texts are padded to, in tokens."""
    shortest: int
    """Length of the shortest text, in tokens; some text has padding from this position on."""
    real: Tensor | None
    """(tokens,) index of each token among the texts * longest positions; None without padding."""
    mask: Tensor | None
    """(texts, 1, 1, longest), True at real tokens; None without padding."""

    @cached_property
    def pieces(self) -> list[int]:
        """Number of slots of each piece. A slot holds one text; a few slots may be empty."""
        return _pieces(self.texts, self.longest)

    @cached_property
    def slots(self) -> int:
        """Total number of slots; those beyond the texts are empty."""
        return sum(self.pieces)

    @cached_property
    def hidden(self) -> Tensor | None:
        """(slots, 1, 1, longest - shortest), True at padding, for the positions from `shortest` on.

        In an empty slot all are False, because softmax is undefined for a row without any score.
        """
        if self.mask is None:
            return None
        ends = ~self.mask[..., self.shortest :]
        return F.pad(ends, (0, 0, 0, 0, 0, 0, 0, self.slots - self.texts))


class Packing:
    """Layout of the texts of a packed row, and their groups for attention.

    A group consists of adjacent texts, so the texts should be sorted by length.

    Args:
        lengths: Number of tokens of each text.
        device: Device of the row.
        last: Modules of the layer after which only the first token of each text is used.
        offsets: `offsets` if they are already on the device (see `Batch`).
        spare: Number of unused positions at the end of the row; chosen by default.
        longest: Upper bound of the number of tokens between two offsets; computed by default.
    """

    def __init__(
        self,
        lengths: list[int],
        device: torch.device,
        last: frozenset[nn.Module] = frozenset(),
        offsets: Tensor | None = None,
        spare: int | None = None,
        longest: int | None = None,
    ) -> None:
        self.lengths = lengths
        self.device = device
        self.last = last
        """Modules of the layer after which only the first token of each text is used."""
        tokens = sum(lengths)
        if spare is None:
            spare = rounded(tokens) - tokens if device.type == "cpu" else 0
        self.spare = spare
        """Number of unused positions at the end of the row."""
        self.longest = longest or max(*lengths, spare)
        """Upper bound of the number of tokens between two offsets."""
        self._offsets = offsets

    @cached_property
    def groups(self) -> list[Group]:
        """Groups for attention with padding (on a CPU, and on a GPU without a varlen kernel)."""
        groups: list[Group] = []
        start = 0
        cost = _GROUP_COST if self.device.type == "cpu" else _GPU_GROUP_COST
        for run in _runs(self.lengths, cost):
            groups.append(_group(start, run, self.device))
            start += sum(run)
        return groups

    @property
    def is_grouped(self) -> bool:
        """Whether attention was computed by groups."""
        return "groups" in self.__dict__

    @cached_property
    def offsets(self) -> Tensor:
        """(texts + 1,) int32 cumulative lengths, for the varlen kernel.

        There is one more if the unused positions are handled as a text of their own.
        """
        if self._offsets is not None:
            return self._offsets
        spare = [self.spare] if self.spare and self.device.type == "cuda" else []
        lengths = [0, *self.lengths, *spare]
        return torch.tensor(lengths, device=self.device).cumsum(0, dtype=torch.int32)

    @cached_property
    def starts(self) -> Tensor:
        """(texts,) position of each text's first token; on a GPU also of the unused positions."""
        return self.offsets[:-1].long()

    @cached_property
    def parted(self) -> Tensor:
        """Positions that are computed after the last attention: `starts`.

        On a CPU there are a few more (position 0), so that few different numbers of texts occur.
        """
        if self.device.type != "cpu":
            return self.starts
        texts = len(self.lengths)
        return F.pad(self.starts, (0, rounded(texts) - texts))


def rounded(size: int) -> int:
    """Round `size` up (by 6 % on average), so that few different sizes occur.

    On a CPU, oneDNN builds a kernel for each new shape of a product, which takes 0.4 ms or more. It
    caches the last thousand, 0.7 MB each: more than all tensors of a small model.
    """
    step = max(16, (1 << size.bit_length()) // 16)
    return -(-size // step) * step


def _runs(lengths: list[int], group_cost: int = _GROUP_COST) -> list[list[int]]:
    """Split `lengths` into runs with the lowest total cost of padding and of the number of runs.

    A run can start only where the rounded length changes. This is dynamic programming from the end:
    the best split of the rest is known for each start.
    """
    sizes = [rounded(length) for length in lengths]
    starts = [i for i in range(len(sizes)) if i == 0 or sizes[i] != sizes[i - 1]]
    best: list[tuple[int, int]] = [(0, len(lengths))]  # cost from a start on; end of the run
    for first in reversed(range(len(starts))):
        costs, longest = [], 0
        for last in range(first, len(starts)):
            cut = starts[last + 1] if last + 1 < len(starts) else len(lengths)
            longest = max(longest, sizes[starts[last]])
            own = (cut - starts[first]) * _cost(longest) + group_cost
            costs.append((own + best[last - first][0], cut))
        best.insert(0, min(costs))
    runs, start = [], 0
    cuts = dict(zip(starts, (cut for _, cut in best), strict=False))
    while start < len(lengths):
        runs.append(lengths[start : cuts[start]])
        start = cuts[start]
    return runs


def _cost(longest: int) -> int:
    """Return the cost of a text padded to `longest`, with copies of its rows, in pairs."""
    return longest * (longest + _ROW_COST)


def _group(start: int, lengths: list[int], device: torch.device) -> Group:
    tokens, longest = sum(lengths), max(lengths)
    if device.type == "cpu":
        longest = rounded(longest)
    if tokens == len(lengths) * longest:
        return Group(start, tokens, len(lengths), longest, longest, None, None)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    real, mask = mask.flatten().nonzero().flatten(), mask[:, None, None]
    if device.type == "cuda":  # from pinned memory; otherwise the copy would wait for the device
        real, mask = (x.pin_memory().to(device, non_blocking=True) for x in (real, mask))
    return Group(start, tokens, len(lengths), longest, min(lengths), real, mask)


def _pieces(texts: int, longest: int) -> list[int]:
    """Return the number of slots of each piece, for at least `texts` texts.

    The numbers are powers of 4, so that few different shapes occur. There are empty slots if they
    cost less than one more piece.
    """
    largest = _power_of_4(max(1, _PIECE // longest**2))
    return [largest] * (texts // largest) + _rest(texts % largest, longest, largest)


def _rest(texts: int, longest: int, largest: int) -> list[int]:
    if texts == 0:
        return []
    power = _power_of_4(texts)
    split = [power, *_rest(texts - power, longest, largest)]
    single = [4 * power] if power < texts else split

    def cost(pieces: list[int]) -> int:
        return sum(pieces) * _cost(longest) + len(pieces) * _GROUP_COST

    return min(single, split, key=cost)


def _power_of_4(limit: int) -> int:
    """Return the largest power of 4 that is at most `limit`."""
    return 1 << (limit.bit_length() - 1) // 2 * 2
