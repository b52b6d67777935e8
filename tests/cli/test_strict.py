"""`--strict`: an error of the audit gives exit code 2 even if all runs succeed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

TOPICS = {"animals": "cat dog bird horse", "food": "bread milk soup cheese"}


def write(path: Path, start: int, rows: int) -> Path:
    """Write a file with texts that are in no other file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(start, start + rows):
            label = list(TOPICS)[i % 2]
            words = TOPICS[label].split()
            writer.writerow([f"{words[i % 4]} {words[i % 3]} number {i}", label])
    return path


@pytest.fixture
def clean(finished_study: Any, tmp_path: Path) -> list[Any]:
    """Options of a study without findings of the audit."""
    train, test = write(tmp_path / "train.csv", 0, 60), write(tmp_path / "test.csv", 100, 40)
    validation = ["--validation", write(tmp_path / "validation.csv", 200, 20)]
    return ["--model", finished_study.model, "--train", train, "--test", test, *validation]


def test_compare(clean: list[Any], tuneoff: Any, tmp_path: Path) -> None:
    command = ("compare", *clean, "--methods", "tfidf", "--out", tmp_path / "study", "--strict")
    well = tuneoff(*command)
    assert well.code == 0, well.err
    assert "Audit: no problem found" in well.out
    # the same with a training file that contains the test rows
    train, test = clean[3], clean[5]
    train.write_text(train.read_text() + "".join(test.read_text().splitlines(True)[1:]))
    miscounted = tuneoff(*command)
    assert miscounted.code == 2
    assert "train-test-overlap: 40 of 40 test rows (100 %)" in miscounted.out
    assert "Report:" in miscounted.out  # it ran, and everything is written
    lenient = tuneoff(*command[:-1])
    assert lenient.code == 0
    assert "train-test-overlap" in lenient.out
    summary = json.loads(tuneoff(*command, "--json").out)
    assert [finding["code"] for finding in summary["audit"]] == ["train-test-overlap"]
    assert tuneoff(*command, "--json").code == 2


def test_report(finished_study: Any, tuneoff: Any, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished_study.path, folder)
    strict = tuneoff("report", folder, "--strict")
    assert strict.code == 2
    assert "shared-learning-rate" in strict.out  # 3e-3 for full and lora
    assert "single-seed" in strict.out
    paths = ("Report", "To use it")  # not truncated, so that they can be copied
    assert max(len(x) for x in strict.out.splitlines() if not x.startswith(paths)) <= 80
    assert tuneoff("report", folder).code == 0


def test_train(clean: list[Any], tuneoff: Any, tmp_path: Path) -> None:
    command = ("train", "--method", "tfidf", *clean, "--strict", "--out")
    well = tuneoff(*command, tmp_path / "well")
    assert well.code == 0, well.err
    assert "Audit: no problem found" in well.out
    train, test = clean[3], clean[5]
    train.write_text(train.read_text() + "".join(test.read_text().splitlines(True)[1:]))
    miscounted = tuneoff(*command, tmp_path / "miscounted", "--json")
    assert miscounted.code == 2
    assert json.loads(miscounted.out)["status"] == "finished"
    assert "train-test-overlap" in miscounted.err


def test_help_names_the_exit_code(tuneoff: Any) -> None:
    for command in ("compare", "train", "report"):
        text = " ".join(tuneoff(command, "--help").out.split())
        assert "--strict" in text
        assert "Exit with code 2 if the audit finds an error" in text.replace("│ │ ", "")
