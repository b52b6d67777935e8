"""How the rows of a step or a split are laid into passes."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tuneoff.engine.data.batches import by_tokens


def filled(lengths: list[int], budget: int) -> int:
    """How many passes there are if each takes, in order, what it has room for."""
    passes, used = 1, 0
    for length in sorted(lengths):
        if used and used + length > budget:
            passes, used = passes + 1, 0
        used += length
    return passes


@given(st.lists(st.integers(1, 512), min_size=1, max_size=60), st.integers(1, 4096))
@example([512] * 5, 2048)
@example([2100], 2048)
def test_passes_are_few_full_of_neighbours_and_no_larger_than_need_be(
    lengths: list[int], budget: int
) -> None:
    sizes, rows = np.array(lengths), np.arange(len(lengths))
    pieces = by_tokens(sizes, rows, budget)
    assert sorted(np.concatenate(pieces)) == list(rows)
    assert sizes[np.concatenate(pieces)].tolist() == sorted(lengths)
    assert len(pieces) == filled(lengths, budget)
    assert all(sizes[piece].sum() <= budget or len(piece) == 1 for piece in pieces)
    largest = max(sizes[piece].sum() for piece in pieces)
    if max(lengths) < largest <= budget:  # a smaller budget would need one more
        assert filled(lengths, int(largest) - 1) > len(pieces)


def test_a_share_without_rows_is_one_pass_of_none() -> None:
    (piece,) = by_tokens(np.array([3, 4]), np.array([], np.int64), 8)
    assert len(piece) == 0
