"""Conversion of options to settings of a study file."""

from __future__ import annotations

import pytest

from tuneoff.cli.options import nested, over
from tuneoff.config import parse_study
from tuneoff.exceptions import BadInput

LEAST = {"model": "m", "data": {"train": "t.csv"}}


@pytest.mark.parametrize(("given", "seconds"), [("20", 0.02), ("2.5ms", 0.0025), ("0.5s", 0.5)])
def test_latency_is_in_milliseconds(given: str, seconds: float) -> None:
    study = parse_study({**LEAST, **nested({"limits.latency_seconds": given})})
    assert study.limits == {"latency_seconds": pytest.approx(seconds)}


def test_min_recall_options_replace_those_of_the_file() -> None:
    options = nested({"limits.min_recall": ["a=b=0.8", "spam=.5"], "limits.storage_bytes": None})
    file = {**LEAST, "limits": {"min_recall": {"spam": 0.9, "ham": 0.1}}}
    assert parse_study(over(file, options)).min_recall == {"a=b": 0.8, "spam": 0.5, "ham": 0.1}
    assert nested({"limits.min_recall": []}) == {}  # option not given


@pytest.mark.parametrize("given", ["spam", "=0.8", "spam=", "spam=most"])
def test_min_recall_needs_a_label_and_a_number(given: str) -> None:
    with pytest.raises(BadInput, match="is not a label and a number"):
        nested({"limits.min_recall": [given]})
