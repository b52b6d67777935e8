"""Groups of texts and their blocks: all texts in order, few shapes, and minimal cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tuneoff.engine.kernels import packing
from tuneoff.engine.kernels.packing import Packing, rounded

CPU = torch.device("cpu")


@pytest.mark.parametrize("texts", [*range(1, 40), 64, 65, 300])
@pytest.mark.parametrize("longest", [16, 64, 128, 512])
def test_blocks_have_minimal_cost(texts: int, longest: int) -> None:
    def cost(pieces: tuple[int, ...]) -> int:
        return sum(pieces) * packing._cost(longest) + len(pieces) * packing._GROUP_COST

    pieces = packing._pieces(texts, longest)
    assert sum(pieces[:-1]) < texts <= sum(pieces)
    assert max(pieces) == 1 or max(pieces) * longest**2 <= packing._PIECE
    sizes = [4**n for n in range(5) if n == 0 or 4**n * longest**2 <= packing._PIECE]
    best = [()]  # for 0, 1, 2, … texts
    for n in range(1, texts + 1):
        best.append(min(((size, *best[max(0, n - size)]) for size in sizes), key=cost))
    assert cost(tuple(pieces)) == cost(best[texts])


def test_groups_cover_the_row_in_order() -> None:
    lengths = [2, 3, 3, 40, 41, 90, 200, 201]
    groups = Packing(lengths, CPU).groups
    assert sum(g.texts for g in groups) == len(lengths)
    assert 1 < len(groups) < len(lengths)
    place = text = 0
    for group in groups:
        own = lengths[text : text + group.texts]
        assert (group.start, group.tokens) == (place, sum(own))
        assert group.longest == rounded(max(own))
        place, text = place + group.tokens, text + group.texts


def test_groups_have_minimal_cost() -> None:
    def cost(groups: list[list[int]]) -> int:
        return sum(packing._GROUP_COST + len(g) * packing._cost(rounded(max(g))) for g in groups)

    draw = np.random.default_rng(0)
    for spread in (0.2, 0.5, 1.0):
        lengths = sorted((draw.lognormal(3.5, spread, 9).astype(int) + 1).tolist())
        every = []
        for cuts in range(2 ** (len(lengths) - 1)):
            groups = [[lengths[0]]]
            for i, length in enumerate(lengths[1:]):
                if cuts >> i & 1:
                    groups.append([])
                groups[-1].append(length)
            every.append(cost(groups))
        found = packing._runs(lengths)
        assert [n for group in found for n in group] == lengths
        assert cost(found) == min(every)


def test_all_lengths_need_few_shapes() -> None:
    """A kernel of 0.7 MB is kept for each shape and each of six products."""
    draw = np.random.default_rng(0)
    shapes = set()
    for _ in range(1000):
        lengths = np.minimum(draw.lognormal(4.5, 1, 16), 512).astype(int) + 1
        for group in Packing(sorted(lengths.tolist()), CPU).groups:
            shapes |= {(count, group.longest) for count in group.pieces}
    assert 20 < len(shapes) <= 36  # 45 with lengths rounded to 8


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 65, 127, 128, 1000, 16_384])
def test_rounding_adds_few_tokens(size: int) -> None:
    assert size <= rounded(size) <= max(size + 15, 1.125 * size)
    assert rounded(rounded(size)) == rounded(size)
