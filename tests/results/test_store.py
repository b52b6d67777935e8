"""Folder of a study, whose files are written atomically."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tuneoff.config import RunSpec, TrainSpec, parse_study
from tuneoff.exceptions import BadInput
from tuneoff.methods import method
from tuneoff.results.record import DataInfo, MethodInfo, RunRecord, Status
from tuneoff.results.store import RunFolder, StudyFolder, check_writable, write_atomic, write_json
from tuneoff.scheduling.plan import complete

SPEC = RunSpec(
    name="größe 1",
    method="lora",
    config={"rank": 4, "targets": ["query"]},
    model="m",
    train=TrainSpec(learning_rate=3e-4, class_weights={"Ärger": 2.0}),
    seed=3,
    metric="macro_f1",
    data_fingerprint="d",
    model_fingerprint="f",
)
RECORD = RunRecord(
    run_id="x-s0-00000000",
    status=Status.DIVERGED,
    method=MethodInfo("x", "full", "selective", {}),
    seed=0,
    model="m",
    metric="macro_f1",
    data=DataInfo("d", 3, 2, 1, ["Ärger", "b"]),
    train={},
    error="the loss became NaN",
)


def test_files_are_replaced_atomically(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.txt"
    write_atomic(file, "old")
    write_atomic(file, "größer")
    assert file.read_bytes() == "größer".encode()
    assert [p.name for p in file.parent.iterdir()] == ["file.txt"]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": math.nan})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "\ud800")
    assert json.loads(file.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError):  # noqa: PT011  (the type differs between systems)
        write_atomic(tmp_path / "x", "content")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_round_trip_of_spec_and_record(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_spec(SPEC)
    folder.write_record(RECORD)
    assert folder.spec() == SPEC
    assert folder.spec().run_id == SPEC.run_id
    assert folder.record() == RECORD


def test_record_of_the_first_version_can_be_read() -> None:
    plain = RECORD.to_plain()
    plain["departures"] = {"dropout": "0 in place of 0.1"}
    del plain["deviations"]
    assert RunRecord.from_plain(plain).deviations == {"dropout": "0 in place of 0.1"}


def test_missing_values_are_null(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_record(RECORD)
    plain = json.loads(folder.record_file.read_text(encoding="utf-8"))
    assert plain["parameters"] is None
    assert plain["quality"] == {"validation": None, "test": None}
    assert plain["cost"]["peak_memory_bytes"] is None
    assert plain["status"] == "diverged"


@pytest.mark.parametrize("half", ["", '{"kind": "tra', '{"kind": "train", "loss": 1.0}'])
def test_incomplete_history_row_is_skipped(tmp_path: Path, half: str) -> None:
    folder = RunFolder(tmp_path)
    folder.history_file.write_text('{"kind": "train", "loss": 2.0}\n' + half)
    assert folder.history() == [{"kind": "train", "loss": 2.0}]


def test_missing_history_is_empty(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).history() == []
    assert RunFolder(tmp_path).record() is None


def test_clear_removes_files_of_an_earlier_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_spec(SPEC)
    folder.write_record(RECORD)
    folder.history_file.touch()
    folder.log_file.touch()
    folder.predictions_file.touch()
    (folder.model / "base").mkdir(parents=True)
    folder.clear()
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]


def test_round_trip_of_a_study(tmp_path: Path) -> None:
    lora = {"method": "lora", "name": "größe", "rank": 2}
    asked = complete(
        parse_study({"model": "m", "data": {"train": "t.csv"}, "methods": ["full", lora]})
    )
    folder = StudyFolder(tmp_path / "s")
    folder.write_spec(asked)
    assert StudyFolder.open(tmp_path / "s").spec() == asked
    assert "größe" in folder.spec_file.read_text(encoding="utf-8")
    assert method("lora").defaults().keys() <= asked.methods[1].config.keys()


def test_wrong_folder_suggests_similar_names(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "reviews")
    study.write_spec(parse_study({"model": "m", "data": {"train": "t.csv"}}))
    study.run("full-s0-12345678").write_spec(SPEC)
    with pytest.raises(BadInput, match="Did you mean 'reviews'"):
        StudyFolder.open(tmp_path / "review")
    with pytest.raises(BadInput, match="Did you mean 'full-s0-12345678'"):
        RunFolder.open(study.runs_folder / "full-s0-1234567")
    with pytest.raises(BadInput, match=r"Give one of its runs, for example .*full-s0-12345678"):
        RunFolder.open(study.path)
    study.run("lora-s0-00000000").write_spec(SPEC)
    with pytest.raises(BadInput, match="Did you mean 'lora-s0-00000000'"):
        RunFolder.open(study.runs_folder / "lora-s0")  # a prefix that is shorter than the rest
    (study.path / "summary.json").write_text('{"recommendation": {"run_id": "lora-s0-00000000"}}')
    with pytest.raises(BadInput, match=r"for example .*lora-s0-00000000"):
        RunFolder.open(study.path)
    (study.run("lora-s0-00000000").path / "model").mkdir()
    with pytest.raises(BadInput, match=r"Give .*lora-s0-00000000"):
        RunFolder.open(study.run("lora-s0-00000000").path / "model")


def test_file_in_place_of_a_folder_is_found_before_any_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "deep")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match="is a file"):
            check_writable(path)
    assert not (tmp_path / "new").exists()
