"""Where the texts of a packed row lie, and in which groups and pieces attention takes them.

Texts of similar lengths form a group, padded to its longest one; a group is computed in pieces that
stay in the processor's cache. Padding, groups and pieces all cost something: the least in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A further group of lengths, or piece of one, costs as much as this many query-key pairs of padding
# (0.4 ms a layer).
_GROUP_COST = 12_000

# The same on a GPU without a varlen kernel, where a group is some ten launches (0.05 ms) during
# which a T4 computes so many pairs of twelve heads.
_GPU_GROUP_COST = 300_000

# A padded row is copied several times: as much work as this many pairs.
_ROW_COST = 32

# Query-key pairs per piece: with twelve heads 2 MB in bf16, a core's second-level cache.
_PIECE = 83_000


@dataclass(frozen=True)
class Group:
    """Neighbouring texts of a packed row that are attended to together, padded to `longest`."""

    start: int
    """First token of the group in the row."""
    tokens: int
    texts: int
    longest: int
    shortest: int
    """Places from here on are padding in some text."""
    real: Tensor | None
    """(tokens,) place of each token among the texts * longest; None: every place is one."""
    mask: Tensor | None
    """(texts, 1, 1, longest), True at real tokens."""

    @cached_property
    def pieces(self) -> list[int]:
        """Slots for a text each that are computed at once: for all texts, or a few more."""
        return _pieces(self.texts, self.longest)

    @cached_property
    def slots(self) -> int:
        """Of all pieces; those beyond the texts are empty."""
        return sum(self.pieces)

    @cached_property
    def hidden(self) -> Tensor | None:
        """(slots, 1, 1, longest - shortest), True at a text's padding: the places from `shortest`
        on. An empty slot hides none, for a row without any score would have no shares."""
        if self.mask is None:
            return None
        ends = ~self.mask[..., self.shortest :]
        return F.pad(ends, (0, 0, 0, 0, 0, 0, 0, self.slots - self.texts))


class Packing:
    """Where the texts of a packed row lie, and in which groups attention takes them.

    Groups are runs of neighbours, so texts should stand in order of their lengths.
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
        """Modules of the layer after which the first tokens alone are of interest."""
        tokens = sum(lengths)
        if spare is None:
            spare = rounded(tokens) - tokens if device.type == "cpu" else 0
        self.spare = spare
        """Places at the end of the row that hold no text."""
        self.longest = longest or max(*lengths, spare)
        """Upper bound for the tokens between two offsets."""
        self._offsets = offsets

    @cached_property
    def groups(self) -> list[Group]:
        """For attention by padded groups (CPU, and wherever there is no varlen kernel)."""
        groups: list[Group] = []
        start = 0
        cost = _GROUP_COST if self.device.type == "cpu" else _GPU_GROUP_COST
        for run in _runs(self.lengths, cost):
            groups.append(_group(start, run, self.device))
            start += sum(run)
        return groups

    @property
    def is_grouped(self) -> bool:
        """Whether attention took the texts in groups."""
        return "groups" in self.__dict__

    @cached_property
    def offsets(self) -> Tensor:
        """(texts + 1,) int32 cumulative lengths, as the varlen kernel takes them; one more where
        the spare places are a text of their own."""
        if self._offsets is not None:
            return self._offsets
        spare = [self.spare] if self.spare and self.device.type == "cuda" else []
        lengths = [0, *self.lengths, *spare]
        return torch.tensor(lengths, device=self.device).cumsum(0, dtype=torch.int32)

    @cached_property
    def starts(self) -> Tensor:
        """(texts,) the first token of each text; on a GPU of the spare places, too, if any."""
        return self.offsets[:-1].long()

    @cached_property
    def parted(self) -> Tensor:
        """`starts` and what goes on with them after the last attention: on a CPU a few places more,
        so that few different numbers of texts occur."""
        if self.device.type != "cpu":
            return self.starts
        texts = len(self.lengths)
        return F.pad(self.starts, (0, rounded(texts) - texts))


def rounded(size: int) -> int:
    """`size` or a little more (6 % on average), so that few different sizes occur.

    On a CPU oneDNN builds a kernel for each new shape of a product and keeps the last thousand: 0.7
    MB each, more than all tensors of a small model, and 0.4 ms or more.
    """
    step = max(16, (1 << size.bit_length()) // 16)
    return -(-size // step) * step


def _runs(lengths: list[int], group_cost: int = _GROUP_COST) -> list[list[int]]:
    """`lengths` in runs of neighbours, so that padding and the number of runs cost least together.

    Runs begin where the rounded length changes, and are found from the end on: the best of the
    rest is known for each beginning.
    """
    places = [rounded(length) for length in lengths]
    begins = [i for i in range(len(places)) if i == 0 or places[i] != places[i - 1]]
    best: list[tuple[int, int]] = [(0, len(lengths))]  # cost from a beginning on, and where to cut
    for first in reversed(range(len(begins))):
        costs, longest = [], 0
        for last in range(first, len(begins)):
            cut = begins[last + 1] if last + 1 < len(begins) else len(lengths)
            longest = max(longest, places[begins[last]])
            own = (cut - begins[first]) * _cost(longest) + group_cost
            costs.append((own + best[last - first][0], cut))
        best.insert(0, min(costs))
    runs, at = [], 0
    cuts = dict(zip(begins, (cut for _, cut in best), strict=False))
    while at < len(lengths):
        runs.append(lengths[at : cuts[at]])
        at = cuts[at]
    return runs


def _cost(longest: int) -> int:
    """Of a text padded to `longest`, in query-key pairs: its own, and copies of its rows."""
    return longest * (longest + _ROW_COST)


def _group(start: int, lengths: list[int], device: torch.device) -> Group:
    tokens, longest = sum(lengths), max(lengths)
    if device.type == "cpu":
        longest = rounded(longest)
    if tokens == len(lengths) * longest:
        return Group(start, tokens, len(lengths), longest, longest, None, None)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    real, mask = mask.flatten().nonzero().flatten(), mask[:, None, None]
    if device.type == "cuda":  # from pinned memory, for otherwise the copy waits for the device
        real, mask = (x.pin_memory().to(device, non_blocking=True) for x in (real, mask))
    return Group(start, tokens, len(lengths), longest, min(lengths), real, mask)


def _pieces(texts: int, longest: int) -> list[int]:
    """Slots per piece, 4^n so that few different shapes occur: together for `texts`, or for more
    where those cost less than further pieces."""
    fit = _power_of_4(max(1, _PIECE // longest**2))
    return [fit] * (texts // fit) + _rest(texts % fit, longest, fit)


def _rest(texts: int, longest: int, fit: int) -> list[int]:
    if texts == 0:
        return []
    below = _power_of_4(texts)
    split = [below, *_rest(texts - below, longest, fit)]
    whole = [4 * below] if below < texts else split

    def cost(pieces: list[int]) -> int:
        return sum(pieces) * _cost(longest) + len(pieces) * _GROUP_COST

    return min(whole, split, key=cost)


def _power_of_4(most: int) -> int:
    """The largest one up to `most`."""
    return 1 << (most.bit_length() - 1) // 2 * 2
