from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from tuneoff.error_analysis.certainty import (
    adjusted,
    design_effects,
    differs_from_rest,
    more_than_chance,
    wilson,
)


@pytest.mark.parametrize(("hits", "rows"), [(0, 7), (7, 7), (3, 11), (480, 1000), (1, 9824)])
def test_interval_is_wilsons(hits: int, rows: int) -> None:
    low, high = wilson(hits, rows)
    expected = binomtest(hits, rows).proportion_ci(method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


def test_interval_without_rows() -> None:
    assert [float(x) for x in wilson(0, 0)] == [0.0, 1.0]


def test_p_value_is_hypergeometric() -> None:
    rng = np.random.default_rng(0)
    total, marked = 5000, 700
    drawn = rng.integers(1, 4000, 400)
    hits = rng.hypergeometric(marked, total - marked, drawn)
    hits = np.minimum(hits + rng.integers(0, 40, 400), np.minimum(drawn, marked))
    found = more_than_chance(hits, drawn, marked, total)
    expected = hypergeom.sf(hits - 1, total, marked, drawn)
    above = hits * total > drawn * marked
    assert 100 < above.sum() < 400
    assert found[above] == pytest.approx(expected[above], rel=1e-7, abs=1e-300)
    assert (found[~above] == 1).all()


def test_two_sided_test() -> None:
    few, many, usual = differs_from_rest([2, 38, 20], [100, 100, 100], 200, 1000)
    assert few == pytest.approx(2 * hypergeom.cdf(2, 1000, 200, 100), rel=1e-6)
    assert many == pytest.approx(2 * hypergeom.sf(37, 1000, 200, 100), rel=1e-6)
    assert usual == 1


def test_extreme_counts_have_a_probability() -> None:
    found = more_than_chance([0, 5, 3], [5, 5, 3], 5, 5)
    assert found.tolist() == [1.0, 1.0, 1.0]
    assert more_than_chance([1], [1], 1, 100) == pytest.approx([0.01])


def test_correction_is_benjamini_hochberg() -> None:
    p = np.array([[0.01, 0.04], [0.03, 0.5]])
    # sorted 0.01 0.03 0.04 0.5, times 4/rank: 0.04 0.06 0.0533 0.5, then the minimum from the right
    assert adjusted(p) == pytest.approx(np.array([[0.04, 0.16 / 3], [0.16 / 3, 0.5]]))
    assert adjusted(np.empty((0, 2))).size == 0


def test_rows_copied_into_groups_count_once() -> None:
    """Five copies of a row count as one: counts / design effect equal those of the rows."""
    rng = np.random.default_rng(0)
    wrong, inside = rng.random((400, 2)) < 0.3, rng.integers(0, 2, (400, 3))
    often = np.repeat(np.arange(400), 5)
    effect = design_effects(inside[often], wrong[often], often)
    assert effect == pytest.approx(np.full((3, 2), 5.0), rel=0.01)
    assert design_effects(inside, wrong, None) == pytest.approx(np.ones((3, 2)))
    # groups that are independent of the errors change little
    at_random = design_effects(inside, wrong, rng.integers(0, 100, 400))
    assert (at_random >= 1).all()
    assert at_random.max() < 1.7


def test_design_effect_of_one_group_or_without_errors() -> None:
    often = np.repeat(np.arange(50), 4)
    wrong = np.repeat(np.arange(50) % 5 == 0, 4)[:, None]
    one_group, no_errors = often == 0, ~wrong[:, 0]
    found = design_effects(np.stack([one_group, no_errors], 1), wrong, often)
    assert found[0, 0] == 1
    assert found[1, 0] == pytest.approx(4 * 50 / 49)  # the design effect over all rows
