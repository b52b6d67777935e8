"""100 hostile strings as names of files, folders and columns, and as the values of a group."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_records import write_task

from tuneoff import formatting as fmt
from tuneoff.config import DataSpec
from tuneoff.engine.data.gather import gather
from tuneoff.report import build_report
from tuneoff.report.html import _visible as shown
from tuneoff.results.store import StudyFolder

GROUP_ROWS = 20
"""Minimum number of rows of a group in the error analysis."""
OTHERS = ["the rest", "of the", "groups in", "each of", "the files"]


def can_be_a_file(name: str) -> bool:
    return "/" not in name and "\0" not in name


def named_after(text: str, folder: Path) -> DataSpec:
    """Write a file whose name, column names and one of its groups contain `text`."""
    path = folder / f"{text if can_be_a_file(text) else 'plain'}.jsonl"
    folder.mkdir()
    columns = [text, f"{text} label", f"{text} group"]
    rows = [[f"a cat {i} \ud83d", "ab"[i % 2], (text, *OTHERS)[i // 2 % 6]] for i in range(48)]
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    return DataSpec(train=str(path), text=columns[0], label=columns[1], group=columns[2], test=0.5)


def test_files_and_columns_with_hostile_names_are_read(
    study: Callable[..., StudyFolder], hostile_strings: list[str], tmp_path: Path
) -> None:
    folder = study(labels=2, seeds=1, failures=False)
    for i, text in enumerate(hostile_strings):
        data = named_after(text, tmp_path / str(i))
        found = gather(data)
        assert {g for rows in found.splits.values() for g in rows["group"]} == {text, *OTHERS}
        assert (
            f"{data.train}: starts with a UTF-8 byte order mark, which is ignored" in found.warnings
        )
        assert any(f"column {text!r} with an unpaired" in warning for warning in found.warnings)
        asked = replace(folder.spec(), data=data)
        folder.write_spec(asked)
        assert folder.spec() == asked


@pytest.fixture
def hostile_study(
    study: Callable[..., StudyFolder], hostile_strings: list[str], tmp_path: Path
) -> StudyFolder:
    """Study in folders named by the strings, with warnings about files and columns of these names.

    Each string is a group whose rows one of the methods gets wrong.
    """
    made = study(labels=2, seeds=1, failures=False)
    task = made.task()
    assert task is not None
    specs = [named_after(text, tmp_path / str(i)) for i, text in enumerate(hostile_strings)]
    write_task(made, replace(task, warnings=[w for data in specs for w in gather(data).warnings]))
    groups = np.repeat(np.array(hostile_strings, dtype=object), GROUP_ROWS)
    labels = np.array(task.labels, dtype=object)[np.arange(2 * len(groups)) % 2]
    rows = pd.DataFrame({"split": "test", "row": range(len(labels)), "label": labels})
    rows["text"] = [f"a cat {i:06}" for i in range(len(labels))]
    rows["group"] = [*groups, *([""] * len(groups))]
    rows["weight"] = 1.0
    rows.to_parquet(made.data / task.key / "rows.parquet")
    for i, run in enumerate(made.runs()):
        wrong = np.arange(len(labels)) // (GROUP_ROWS * 12) == i
        run.write_predictions(_answers(rows, wrong, task.labels))
    deep = tmp_path.joinpath(*(text for text in hostile_strings if can_be_a_file(text)))
    deep.mkdir(parents=True)
    return StudyFolder(made.path.rename(deep / "study"))


def _answers(rows: pd.DataFrame, wrong: Any, labels: list[str]) -> pd.DataFrame:
    truth = (rows["label"] == labels[1]).to_numpy()
    answer = np.where(wrong, ~truth, truth)
    table = rows[["split", "row", "label"]].assign(
        prediction=np.array(labels, dtype=object)[answer.astype(int)]
    )
    for i, label in enumerate(labels):
        table[f"probability_{label}"] = (answer == bool(i)) * 1.0
    return table.assign(weight=1.0)


@pytest.mark.browser
def test_names_are_escaped_in_the_report(
    hostile_study: StudyFolder,
    open_report: Callable[..., Any],
    hostile_strings: list[str],
    tmp_path: Path,
) -> None:
    specs = [named_after(text, tmp_path / f"command {i}") for i, text in enumerate(hostile_strings)]
    options = [x for data in specs for x in ("--train", data.train, "--text", data.text)]
    command = shlex.join(["tuneoff", "compare", *options, "--out", str(hostile_study.path)])
    report = build_report(hostile_study, command)
    task, summary = hostile_study.task(), hostile_study.summary()
    assert task is not None
    assert summary is not None

    opened = tmp_path / "report.html"  # its own path, with hostile names, is not a valid URL
    opened.write_bytes(report.read_bytes())
    page = open_report(opened)
    assert len(task.warnings) >= 2 * len(hostile_strings)
    warnings = page.locator("ul.warnings li").all_text_contents()
    assert warnings == [shown(warning) for warning in task.warnings]
    use = summary["recommendation"]["command"]
    assert shlex.split(use)[2].startswith(f"{hostile_study.path}/runs/")
    commands = page.locator("pre.command code").all_text_contents()
    assert {shown(use), shown(command)} <= set(commands)
    everything = page.evaluate("document.body.textContent")
    for text in hostile_strings:
        assert f"“{shown(fmt.shorten(text, 60))}”" in everything, text
