"""Latency of a single text: selection of texts, and the median."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.engine.measure.latency import ENOUGH, LEAST_ROWS, ROWS, latency_seconds, spread_rows


class Clock:
    """A clock that is advanced by predictions only."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("tuneoff.engine.measure.latency.time", made)
    return made


def test_rows_cover_all_lengths() -> None:
    lengths = np.random.default_rng(3).permutation(1000)
    rows = spread_rows(lengths)
    taken = sorted(lengths[rows].tolist())
    assert len(set(rows)) == ROWS
    assert (taken[0], taken[-1]) == (0, 999)
    assert max(np.diff(taken)) <= 21
    # a prefix covers all lengths, if more texts would take too long
    assert min(lengths[rows[:LEAST_ROWS]]) < 400 < 600 < max(lengths[rows[:LEAST_ROWS]])
    assert spread_rows(lengths) == rows
    assert sorted(spread_rows(np.array([7, 7, 7]))) == [0, 1, 2]


def test_latency_is_the_median_after_a_warm_up(clock: Clock) -> None:
    answered: list[int] = []

    def answer(row: int) -> None:
        # the first calls take a second, the others n ms for a text of length n
        clock.now += 1.0 if len(answered) < LEAST_ROWS else (row + 1) / 1000
        answered.append(row)

    found = latency_seconds(answer, np.arange(1, 22))
    assert found == pytest.approx(0.011)
    assert len(answered) == LEAST_ROWS + 21


def test_slow_models_predict_few_texts(clock: Clock) -> None:
    answered: list[int] = []

    def answer(row: int) -> None:
        clock.now += ENOUGH
        answered.append(row)

    assert latency_seconds(answer, np.arange(1, 100)) == pytest.approx(ENOUGH)
    assert len(answered) == 2 * LEAST_ROWS
