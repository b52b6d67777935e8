"""Strings of a user (labels, columns, file names, methods) cannot control the terminal."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NAME = "a \x1b]0;owned\x07 \u202efdp.csv"


def write(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([header, *rows])
    return path


def test_labels_and_columns(
    tuneoff: Any, tiny_model: Any, tmp_path: Path, hostile_strings: list[str]
) -> None:
    column = "label \x1b[2J \u202e"
    rows = [[f"a cat {i}", label] for i, label in enumerate(hostile_strings * 2)]
    file = write(tmp_path / "train.csv", ["text", column], rows)
    result = tuneoff("check", file, "--label", column, "--model", tiny_model("bert"))
    assert result.code == 2  # arguments are checked, too
    assert not STEERING.search(result.out + result.err)
    file = write(tmp_path / "train.csv", ["text", "label"], rows)
    result = tuneoff("check", file, "--model", tiny_model("bert"))
    assert result.code == 0, result.err
    assert "window.fired" in result.out
    assert not STEERING.search(result.out)
    file = write(tmp_path / "train.csv", ["text", column], rows)
    result = tuneoff("check", file, "--model", tiny_model("bert"))
    assert result.code == 0, result.err  # the column is detected by its values, and shown
    assert "[2J" in result.out
    assert not STEERING.search(result.out + result.err)


def test_issues_escape_values(
    tuneoff: Any, tiny_model: Any, tmp_path: Path, hostile_strings: list[str]
) -> None:
    known = [[f"a cat {i}", "ab"[i % 2]] for i in range(40)]
    train = write(tmp_path / "train.csv", ["text", "label"], known)
    for strange in hostile_strings:
        if not strange.strip():
            continue
        test = write(tmp_path / "test.csv", ["text", "label"], [["x", "a"], ["y", strange]])
        result = tuneoff("check", train, "--test", test, "--model", tiny_model("bert"))
        assert result.code == 2
        assert not STEERING.search(result.err)


def test_names_of_files_in_a_folder(tuneoff: Any, tiny_model: Any, tmp_path: Path) -> None:
    write(tmp_path / NAME, ["text", "label"], [["x", "a"]])
    for asked in (tmp_path, tmp_path / "a-owned-fdp.csv"):
        result = tuneoff("check", asked, "--model", tiny_model("bert"))
        assert result.code == 2
        assert "owned" in result.err
        assert not STEERING.search(result.err)


@pytest.mark.parametrize("name", ["\udcff.csv", "\x1b[31m.csv", "x\u202ey.csv"])
def test_arguments(tuneoff: Any, name: str) -> None:
    result = tuneoff("compare", "--model", "m", "--train", name)
    assert result.code == 2
    assert not STEERING.search(result.err)


def test_unpaired_surrogate_in_a_study_file(tuneoff: Any, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text('model: m\ndata: {train: t.csv, text: "a\\ud800"}\n')
    result = tuneoff("compare", tmp_path / "study.yaml")
    assert result.code == 2
    assert "unpaired surrogate" in result.err


def test_predictions_are_not_spreadsheet_formulas(tmp_path: Path) -> None:
    from tuneoff.cli.predict import _no_formula

    for label in ("=1+1", "+cmd|' /C calc'!A0", "-1+1", "@SUM(1)", "\t=1"):
        assert _no_formula(label) == "'" + label
    for label in ("-1", "+2.5", "food", "1=1", ""):
        assert _no_formula(label) == label


def test_json_output_is_escaped(hostile_strings: list[str]) -> None:
    from tuneoff.exceptions import printable

    text = printable(json.dumps(hostile_strings, ensure_ascii=False))
    assert json.loads(text) == hostile_strings
    assert not STEERING.search(text)
