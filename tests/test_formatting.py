from __future__ import annotations

import math

import pytest

from tuneoff import formatting as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (812_300_000, "812 MB"), (999_600, "1.00 MB"),
     (1_570_000_000, "1.57 GB"), (None, "–"), (math.nan, "–")],
)  # fmt: skip
def test_sizes_are_decimal(value: float | None, text: str) -> None:
    assert fmt.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42, "0.42 s"), (8.12, "8.1 s"), (42.4, "42 s"), (59.6, "1m 00s"), (102.3, "1m 42s"),
     (3599.8, "1h 00m"), (4020, "1h 07m"), (200_000, "2d 07h"), (None, "–")],
)  # fmt: skip
def test_seconds_are_shown_as_durations(value: float | None, text: str) -> None:
    assert fmt.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "short"),
    [(0, "0"), (412, "412"), (813_314, "813k"), (999_900, "1.00M"), (66_955_010, "67.0M"),
     (124_647_170, "125M"), (1.3e9, "1.30B"), (None, "–")],
)  # fmt: skip
def test_short_counts_have_three_digits(value: float | None, short: str) -> None:
    assert fmt.count_short(value) == short


def test_counts_have_separators() -> None:
    assert fmt.count(66_955_010) == "66,955,010"


@pytest.mark.parametrize(
    ("value", "text"),
    [(100, "100 %"), (99.97, "100 %"), (16.4, "16.4 %"), (4.67, "4.67 %"), (0.0123, "0.012 %"),
     (0, "0 %"), (None, "–")],
)  # fmt: skip
def test_percentages_have_two_digits(value: float | None, text: str) -> None:
    assert fmt.percent(value) == text


def test_settings_are_shown_as_in_a_study_file() -> None:
    assert fmt.setting(2e-5) == "2e-5"
    assert fmt.setting(0.0005) == "5e-4"
    assert fmt.setting(0.1) == "0.1"
    assert fmt.setting(0.0) == "0"
    assert fmt.setting({"rank": 8, "targets": ["query", "key"]}) == "rank=8, targets=query, key"
    assert fmt.setting(None) == "–"


def test_shortened_text_keeps_its_start_and_end() -> None:
    assert fmt.shorten("a label\nof two lines", 40) == "a label of two lines"
    assert fmt.shorten("abcdefghijklmnopqrstuvwxyz", 10) == "abcdef…xyz"
    assert "\x1b" not in fmt.one_line("\x1b[31mred")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.012, "share", "+1.2 points"),
        (-0.01, "share", "−1.0 points"),
        (0.0001, "share", "+0.01 points"),
        (0.0, "share", "0 points"),
        (-1e-9, "share", "0 points"),
        (-0.0123, "nats", "−0.012 nats"),
        (None, "share", fmt.MISSING),
        (float("nan"), "nats", fmt.MISSING),
    ],
)
def test_differences(value: float | None, unit: str, text: str) -> None:
    assert fmt.difference(value, unit) == text


def test_margins() -> None:
    assert fmt.margin(0.01, "share") == "1 point"
    assert fmt.margin(0.015, "share") == "1.5 points"
    assert fmt.margin(0.02, "nats") == "0.02 nats"
