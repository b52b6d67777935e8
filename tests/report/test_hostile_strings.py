"""100 hostile strings in every place of a report are displayed unchanged and not executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from tuneoff.report import build_report
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import StudyFolder

pytestmark = pytest.mark.browser

PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def shown(text: str) -> str:
    """Return the displayed text: only control characters are replaced by symbols."""
    return text.translate(PICTURES)


def insert_strings(folder: StudyFolder, strings: Sequence[str]) -> None:
    """Insert the strings into texts, warnings, errors, deviations and the environment."""
    task = folder.task()
    assert task is not None
    folder.write_task(replace(task, warnings=list(strings), model=strings[0]))
    for i, run in enumerate(folder.runs()):
        record = run.record()
        assert record is not None
        own = [f"{i} {text}" for text in strings]
        changed = replace(
            record,
            error=own[i % len(own)] if record.status is not Status.FINISHED else None,
            warnings=own[:10],
            deviations={text: text for text in own[10:20]},
            environment={"machine": strings[i % len(strings)], "versions": {own[0]: own[1]}},
        )
        run.write_record(changed)
    labels = _truth(folder)
    texts = [strings[i % len(strings)] + f" {i}" for i in range(len(labels))]
    rows = pd.DataFrame(
        {"split": "test", "row": range(len(labels)), "text": texts, "label": labels, "weight": 1.0}
    )
    rows.to_parquet(folder.data / task.key / "rows.parquet")


def _truth(folder: StudyFolder) -> list[str]:
    run = next(run for run in folder.runs() if run.predictions_file.is_file())
    labels: list[str] = run.predictions()["label"].tolist()
    return labels


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(i, marks=pytest.mark.long) for i in range(1, 12))]
)
def test_strings_are_displayed_and_not_executed(
    study: Callable[..., StudyFolder],
    open_report: Callable[..., Any],
    hostile_strings: list[str],
    part: int,
) -> None:
    strings = hostile_strings
    assert len(set(strings)) == 100
    methods = (strings * 2)[9 * part : 9 * part + 9]
    folder = study(
        labels=len(strings) if part == 0 else 5,
        label_names=strings if part == 0 else strings[5 * part : 5 * part + 5],
        method_names=methods,
        seeds=1,
        failures=False,
        predictions=True,
    )
    insert_strings(folder, strings)
    page = open_report(build_report(folder, "tuneoff " + " ".join(strings)))

    def texts(selector: str) -> list[str]:
        found: list[str] = page.locator(selector).all_text_contents()
        return found

    assert texts("ul.warnings li") == [shown(text) for text in strings]
    names = {shown(name) for name in methods}
    assert names <= set(texts("ul.legend li"))
    assert names <= set(texts("select[data-switch] option"))
    labels = {shown(label) for label in folder.summary()["labels"]}  # type: ignore[index]
    assert labels <= set(texts("select[data-filter=label] option"))
    known = {shown(text) for text in strings}
    rows = texts(".row-text")
    assert len(rows) > 20
    assert {text.rpartition(" ")[0] for text in rows} <= known
    command = texts("pre.command code")
    assert shown("tuneoff " + " ".join(strings)) in command


def test_figures_have_no_markup(
    study: Callable[..., StudyFolder], hostile_strings: list[str]
) -> None:
    folder = study(
        labels=100,
        label_names=hostile_strings,
        method_names=hostile_strings[:9],
        seeds=1,
        failures=False,
    )
    text = build_report(folder, None).read_text(encoding="utf-8")
    start = text.index('id="figures">') + len('id="figures">')
    data = text[start : text.index("</script>", start)]
    assert "<" not in data
    json.loads(data)


def test_round_trip_of_records(
    study: Callable[..., StudyFolder], hostile_strings: list[str]
) -> None:
    folder = study(labels=100, label_names=hostile_strings, seeds=1, failures=False)
    for run in folder.runs():
        record = run.record()
        assert isinstance(record, RunRecord)
        assert record.data.labels == hostile_strings
        assert run.path.resolve().parent == folder.runs_folder.resolve()
