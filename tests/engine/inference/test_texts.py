"""Texts of Python callers: one row per text, and errors for other values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.api import Run
from tuneoff.exceptions import BadInput


@pytest.fixture(scope="module", params=["tfidf", "full"])
def run(finished_study: Any, request: pytest.FixtureRequest) -> Run:
    return Run(next((finished_study.path / "runs").glob(f"{request.param}-*")))


def test_one_text_is_one_row(run: Run) -> None:
    one = run.predict("the cat ran")
    assert len(one) == 1
    pd.testing.assert_frame_equal(one, run.predict(["the cat ran"]))


def test_any_sequence_of_texts(run: Run) -> None:
    texts = ["the cat ran", "bread and milk"]
    expected = run.predict(texts)
    for given in (tuple(texts), np.array(texts), iter(texts), pd.Index(texts)):
        pd.testing.assert_frame_equal(run.predict(given), expected)


def test_series_keeps_its_index(run: Run) -> None:
    frame = pd.DataFrame({"text": ["rain", "the cat ran", "bread"]}, index=[7, 9, 2])
    found = run.predict(frame["text"][frame["text"] != "rain"])
    assert found.index.tolist() == [9, 2]
    assert frame.join(found)["prediction"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.nan])
def test_missing_text_is_reported_with_its_row(run: Run, missing: Any) -> None:
    with pytest.raises(BadInput) as caught:
        run.predict(["rain", missing, "the cat ran", missing])
    assert "texts that are not strings but missing: 2 of 4 (rows 1, 3)" in str(caught.value)


def test_values_that_are_not_texts(run: Run) -> None:
    for given, said in (
        (["rain", 7, b"x"], "not strings but of type bytes or of type int: 2 of 3 (rows 1, 2)"),
        (
            pd.DataFrame({"text": ["rain"]}),
            "a text or a sequence of them, not an object of type DataFrame",
        ),
        ({"text": ["rain"]}, "not an object of type dict"),
        (b"rain", "not an object of type bytes"),
        (7, "not an object of type int"),
        ({"rain", "snow"}, "not an object of type set"),
        ([{"text": "rain"}], "not rows with the columns 'text'.\n  Hint: Pass the column"),
        ([("rain", "snow")], "not pairs of texts.\n  Hint: Pass the second texts separately"),
    ):
        with pytest.raises(BadInput) as caught:
            run.predict(given)  # type: ignore[arg-type]
        assert said in str(caught.value)


def test_empty_texts_are_labelled_with_a_warning(run: Run) -> None:
    with pytest.warns(UserWarning, match=r"an empty text, .*: 2 of 3 \(rows 0, 2\)"):
        found = run.predict(["", "rain", " \t"])
    assert len(found) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.predict(["rain"])
