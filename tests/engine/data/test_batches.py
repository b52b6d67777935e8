"""Distribution of the rows of a step or split over batches."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tuneoff.engine.data.batches import by_tokens


def filled(lengths: list[int], budget: int) -> int:
    """Return the number of batches if each is filled in order."""
    passes, used = 1, 0
    for length in sorted(lengths):
        if used and used + length > budget:
            passes, used = passes + 1, 0
        used += length
    return passes


@given(st.lists(st.integers(1, 512), min_size=1, max_size=60), st.integers(1, 4096))
@example([512] * 5, 2048)
@example([2100], 2048)
def test_batches_are_few_and_of_similar_lengths(lengths: list[int], budget: int) -> None:
    sizes, rows = np.array(lengths), np.arange(len(lengths))
    pieces = by_tokens(sizes, rows, budget)
    assert sorted(np.concatenate(pieces)) == list(rows)
    assert sizes[np.concatenate(pieces)].tolist() == sorted(lengths)
    assert len(pieces) == filled(lengths, budget)
    assert all(sizes[piece].sum() <= budget or len(piece) == 1 for piece in pieces)
    largest = max(sizes[piece].sum() for piece in pieces)
    if max(lengths) < largest <= budget:  # a smaller size would need one more
        assert filled(lengths, int(largest) - 1) > len(pieces)


def test_no_rows_give_one_empty_batch() -> None:
    (piece,) = by_tokens(np.array([3, 4]), np.array([], np.int64), 8)
    assert len(piece) == 0
