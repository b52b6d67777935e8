"""Additional requirements of a method are checked before any run."""

from __future__ import annotations

import sys

import pytest

from tuneoff.config import parse_study
from tuneoff.exceptions import BadInput
from tuneoff.scheduling.plan import complete


def _study(*methods: object) -> dict[str, object]:
    return {"model": "any", "data": {"train": "any.csv"}, "methods": list(methods)}


def test_missing_extra_is_named_before_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # marks the module as missing
    with pytest.raises(BadInput, match=r"'qlora' needs .*'bitsandbytes'.*\n.*tuneoff\[qlora\]"):
        complete(parse_study(_study("full", "qlora")))
    complete(parse_study(_study("full", "lora")))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"method": "lora", "alpha": 0}, "alpha must be positive"),
        ({"method": "lora", "dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"method": "qlora", "rank": 0}, "rank must be at least 1"),
        ({"method": "tfidf", "ngrams": 0}, "must be at least 1"),
        ({"method": "tfidf", "c": -1}, "c must be positive"),
    ],
)
def test_settings_out_of_range_are_errors(entry: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        complete(parse_study(_study(entry)))
