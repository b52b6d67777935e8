from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tuneoff.comparison.summary import summarize
from tuneoff.config import StudySpec
from tuneoff.display.study_table import render_table, to_frame
from tuneoff.results.record import RunRecord, Status

USUAL = ["tfidf", "baseline", "head", "partial", "full", "weighted", "lora", "qlora", "ia3"]
USUAL += ["full-weighted", "lora-r16"]


@pytest.fixture
def summary(study: Callable[..., StudySpec], record: Callable[..., RunRecord]) -> dict[str, Any]:
    records = []
    for place, name in enumerate(USUAL):
        for seed in range(3):
            if name == "ia3" or (name == "qlora" and seed == 2):
                status = Status.OUT_OF_MEMORY
                records.append(record(name, seed, status=status, error="killed at 7.9 GB\nlog"))
            else:
                trainable = 0 if name == "baseline" else 813_314 if "lora" in name else 22_713_986
                score = 0.9312 - 0.02 * place + 0.004 * seed
                records.append(record(name, seed, score, trainable=trainable))
    return summarize(study(*USUAL), None, records)


def rendered(summary: dict[str, Any], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(render_table(summary))
    return stream.getvalue()


def half(summary: dict[str, Any]) -> float:
    (full,) = (row for row in summary["methods"] if row["name"] == "full")
    stat = full["quality"]["macro_f1"]
    return float(stat["high"] - stat["low"]) / 2


def test_table_fits_80_columns(summary: dict[str, Any]) -> None:
    text = rendered(summary, 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for name in USUAL:
        assert any(line.split()[:1] in ([name], [f"{name}*"]) for line in lines), name
    assert "22.7M 100%" in text
    assert "813k 3.6%" in text
    assert "1m42s" in text
    assert "812 MB" in text
    assert "1,204" in text
    assert f"±{half(summary):.3f}".replace("±0.", "±.") in text
    # the best is first, the one without a result last
    body = [line.split()[0] for line in lines[2 : 2 + len(USUAL)]]
    assert body[0] == "tfidf"
    assert body[-1] == "ia3"


def test_failures_are_in_the_table_and_below_it(summary: dict[str, Any]) -> None:
    text = rendered(summary, 80)
    assert "out of memory" in text
    assert "ia3: 3 of 3 runs out of memory (killed at 7.9 GB)" in text
    assert "qlora: 1 of 3 runs out of memory" in text
    assert "100 test rows" in text
    assert "means over 3 seeds" in text


def test_wide_terminal_shows_full_numbers(summary: dict[str, Any]) -> None:
    text = rendered(summary, 150)
    assert max(map(len, text.splitlines())) <= 150
    assert "22,713,986" in text
    assert "3.58 %" in text
    assert f"0.935 ±{half(summary):.3f}" in text
    assert "peak memory" in text


def test_long_names_are_wrapped_and_markup_is_escaped(
    study: Callable[..., StudySpec], record: Callable[..., RunRecord]
) -> None:
    name = "[red]lora[/red] with rank sixteen on every linear layer"
    text = rendered(summarize(study(name, seeds=1), None, [record(name, 0, 0.9)]), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "[red]" in text
    assert "One seed" in text


def test_table_with_a_third_metric(
    study: Callable[..., StudySpec], record: Callable[..., RunRecord]
) -> None:
    for method in ("lora", "lora-with-class-weights"):
        records = [record(method, seed, 0.9 + 0.01 * seed) for seed in range(2)]
        text = rendered(summarize(study(method, metric="mcc", seeds=2), None, records), 80)
        assert "MCC" in text
        assert max(map(len, text.splitlines())) <= 80
        assert " disk\n" in text  # complete, because the rows per second are omitted


def test_frame_has_plain_numbers(summary: dict[str, Any]) -> None:
    frame = to_frame(summary)
    assert frame.index[0] == "tfidf"
    assert frame.loc["full", "trainable_parameters"] == 22_713_986
    assert frame.loc["full", "accuracy_low"] < frame.loc["full", "accuracy"]
    assert frame.loc["qlora", "failed_runs"] == 1
    assert frame["accuracy"].isna().sum() == 1
