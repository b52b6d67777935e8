"""Prepared tasks: equal data gives equal files, which changed data never reuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tuneoff.config import DataSpec
from tuneoff.engine.data import check_file, inspect, open_task, prepare
from tuneoff.engine.data import task as task_module
from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.exceptions import BadInput
from tuneoff.results.record import TaskRecord
from tuneoff.results.store import StudyFolder

HEADER = ["premise", "hypothesis", "label", "w", "g"]
NOUNS = ["cat", "dog", "bird", "tree"]


def line(i: int) -> list[object]:
    label = ["yes", "no", "maybe"][i % 3]
    return [f"the {NOUNS[i % 4]} {i}", "ran fast " * (i % 9), label, 1 + i % 2, i // 2]


@pytest.fixture
def data(write_csv: Callable[..., str]) -> DataSpec:
    return DataSpec(
        train=write_csv("train.csv", HEADER, [line(i) for i in range(60)]),
        text="premise",
        text_pair="hypothesis",
        weight="w",
        group="g",
    )


@pytest.fixture
def model(tokenizer_folder: Path) -> dict[str, Any]:
    return {
        "model": "tiny",
        "model_path": tokenizer_folder,
        "model_fingerprint": "f" * 64,
        "model_type": "bert",
        "max_length": 12,
    }


def content(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.match("*.seconds.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_task_has_the_rows_of_the_file(
    data: DataSpec, model: dict[str, Any], tmp_path: Path, tokenizer_folder: Path
) -> None:
    record = prepare(data, **model, folder=tmp_path / "data")
    task = open_task(tmp_path / "data" / record.key)
    assert task.record == record
    assert task.labels == record.labels == ["maybe", "no", "yes"]
    assert record.pair
    assert record.max_length == 12
    assert len(record.key) == 16
    assert list(task.splits) == ["train", "validation", "test"]
    tokenizer = load_tokenizer(tokenizer_folder)
    seen: list[int] = []
    groups: list[set[str]] = []
    for name, split in task.splits.items():
        assert split.labels.dtype == np.int64
        assert split.weights.dtype == np.float32
        assert len(split) == len(split.tokens) == record.splits[name].rows
        source = [line(int(i)) for i in split.rows]
        assert split.texts() == [row[0] for row in source]
        assert split.pairs() == [row[1] for row in source]
        assert [task.labels[i] for i in split.labels] == [row[2] for row in source]
        assert split.weights.tolist() == [row[3] for row in source]
        for i, row in enumerate(source):
            plain = tokenizer([row[0]], [row[1]], truncation="longest_first", max_length=12)
            assert split.tokens[i].tolist() == plain["input_ids"][0]
        assert split.tokens.type_ids is not None
        seen += split.rows.tolist()
        groups.append(set(split.groups() or []))
    assert sorted(seen) == list(range(60))
    assert sum(map(len, groups)) == len(set().union(*groups)) == 30
    assert record.splits["train"].cut_rows > 0


def test_plain_task_has_no_pairs_groups_or_types(
    data: DataSpec, model: dict[str, Any], tmp_path: Path
) -> None:
    plain = replace(data, text_pair=None, group=None, weight=None)
    record = prepare(plain, **model, folder=tmp_path / "data")
    split = open_task(tmp_path / "data" / record.key).splits["test"]
    assert not record.pair
    assert split.pairs() is None
    assert split.groups() is None
    assert split.tokens.type_ids is None
    assert split.weights.tolist() == [1.0] * 12


def test_preparation_is_deterministic(
    data: DataSpec, model: dict[str, Any], tmp_path: Path
) -> None:
    one = prepare(data, **model, folder=tmp_path / "one")
    two = prepare(data, **model, folder=tmp_path / "two")
    assert one == two
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        one.key,
        f"{one.key}.seconds.json",
    ]
    assert StudyFolder(tmp_path / "s").task() is None


def test_prepared_task_is_reused(
    data: DataSpec, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    study = StudyFolder(tmp_path)
    first = prepare(data, **model, folder=study.data)
    prepare(replace(data, split_seed=1), **model, folder=study.data)
    stamp = (study.data / first.key / "train" / "ids.bin").stat().st_mtime_ns

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    again = prepare(data, **{**model, "model": "twin"}, folder=study.data)
    assert again == replace(first, model="twin")
    assert (study.data / first.key / "train" / "ids.bin").stat().st_mtime_ns == stamp
    assert study.task() == again  # the last prepared task
    assert study.task(first.fingerprint) == again
    with pytest.raises(BadInput, match="tokenised again"):
        prepare(replace(data, split_seed=2), **model, folder=study.data)


def test_incomplete_task_is_prepared_again(
    data: DataSpec, model: dict[str, Any], tmp_path: Path
) -> None:
    record = prepare(data, **model, folder=tmp_path / "data")
    whole = content(tmp_path / "data")
    (tmp_path / "data" / record.key / "task.json").unlink()
    shutil.rmtree(tmp_path / "data" / record.key / "test")
    with pytest.raises(BadInput, match="has no prepared task"):
        open_task(tmp_path / "data" / record.key)
    assert prepare(data, **model, folder=tmp_path / "data") == record
    assert content(tmp_path / "data") == whole


def test_fingerprint_depends_on_the_training_data(
    data: DataSpec,
    model: dict[str, Any],
    tmp_path: Path,
    write_csv: Callable[..., str],
    tokenizer_folder: Path,
) -> None:
    def task(spec: DataSpec = data, **changes: Any) -> TaskRecord:
        return prepare(spec, **{**model, **changes}, folder=tmp_path / "data")

    base = task()
    lines = [line(i) for i in range(60)]
    changed: list[TaskRecord] = []
    for column in range(5):
        other = [list(row) for row in lines]
        value = other[7][column]
        other[7][column] = {2: "yes", 3: 7, 4: 999}.get(column, f"{value}x")
        changed.append(task(replace(data, train=write_csv(f"{column}.csv", HEADER, other))))
    swapped = [lines[1], lines[0], *lines[2:]]
    changed.append(task(replace(data, train=write_csv("swapped.csv", HEADER, swapped))))
    changed.append(task(replace(data, split_seed=1)))
    changed.append(task(replace(data, weight=None)))
    fingerprints = {record.fingerprint for record in changed}
    assert len(fingerprints) == len(changed)
    assert base.fingerprint not in fingerprints

    copy = write_csv("copy.csv", [*HEADER, "extra"], [[*row, "unused"] for row in lines])
    assert task(replace(data, train=copy)).fingerprint == base.fingerprint
    longer = task(max_length=16)
    assert longer.fingerprint == base.fingerprint
    assert longer.key != base.key
    tokenizer = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    assert task(model_path=tokenizer).key == base.key
    file = tokenizer / "tokenizer.json"
    file.write_text(file.read_text().replace('"lowercase":true', '"lowercase": true') + "\n")
    assert task(model_path=tokenizer).key != base.key


def test_invalid_data_is_found_before_the_tokenizer_is_loaded(
    data: DataSpec, model: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="no column 'class'"):
        prepare(
            replace(data, label="class"),
            **{**model, "model_path": tmp_path / "gone"},
            folder=tmp_path / "data",
        )
    assert not (tmp_path / "data").exists()


def test_no_tokenizer(data: DataSpec, model: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    changed = {**model, "model_path": tmp_path / "model"}
    with pytest.raises(BadInput, match="tokenizer cannot be loaded"):
        prepare(data, **changed, folder=tmp_path / "data")
    (tmp_path / "model" / "tokenizer.json").write_text("{broken")
    with pytest.raises(BadInput, match="tokenizer cannot be loaded"):
        prepare(data, **changed, folder=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_slow_tokenizer(
    data: DataSpec, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    slow = SimpleNamespace(is_fast=False)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: slow)
    with pytest.raises(BadInput, match="only a slow tokenizer"):
        prepare(data, **model, folder=tmp_path / "data")


def test_another_process_prepared_first(
    data: DataSpec, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(data, **model, folder=tmp_path / "first")
    build = task_module._write_rows

    def overtaken(*arguments: Any) -> None:
        shutil.copytree(tmp_path / "first", tmp_path / "data", dirs_exist_ok=True)
        build(*arguments)

    monkeypatch.setattr(task_module, "_write_rows", overtaken)
    assert prepare(data, **model, folder=tmp_path / "data") == first
    assert content(tmp_path / "data") == content(tmp_path / "first")


def test_inspect_writes_nothing(data: DataSpec, model: dict[str, Any], tmp_path: Path) -> None:
    assert inspect(data, **model) == prepare(data, **model, folder=tmp_path / "data")


def test_check_file(data: DataSpec, write_csv: Callable[..., str], tokenizer_folder: Path) -> None:
    report = check_file(data, model_path=tokenizer_folder, max_length=12)
    assert report.split.rows == 60
    assert report.split.label_counts == {"maybe": 20, "no": 20, "yes": 20}
    assert list(report.lengths_by_label) == report.labels == ["maybe", "no", "yes"]
    assert list(report.warnings) == [
        "rows with more than 12 tokens, which are truncated: 32 of 60 (lines 6, 7, 8, 9, 10, …)"
    ]
    rows = [["the cat", "a"], ["the cat", "a"], ["the dog", "b"]]
    few = write_csv("few.csv", ["text", "label"], rows)
    report = check_file(DataSpec(train=few), model_path=tokenizer_folder, max_length=12)
    assert list(report.warnings) == [
        "rows that are the only one with their label, so that none can be held out for testing:"
        " 1 of 3 (line 4)",
        "rows with the same text as an earlier row: 1 of 3 (line 3)",
    ]
    single = write_csv("one.csv", ["text", "label"], rows[:2])
    with pytest.raises(BadInput, match="all training rows have the label 'a'"):
        check_file(DataSpec(train=single), model_path=tokenizer_folder, max_length=12)
