"""Studies on full or read-only disks, or with deleted files: exit code, message, no loss."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuneoff.results.record import Status
from tuneoff.results.store import RunFolder, StudyFolder

Mount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A disk in memory, and a function to remount it with other options."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting takes root on Linux")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting is not allowed here")

    def again(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)

    yield path, again
    subprocess.run(["umount", "-l", path], check=True)


def test_read_only_folder(
    tuneoff: Any, disk: tuple[Path, Mount], tiny_model: Any, toy_csv: Any
) -> None:
    path, mount = disk
    mount("ro")
    data = ("--model", tiny_model("bert"), "--train", toy_csv(60))
    for command in (("compare", "--methods", "tfidf"), ("train", "--method", "tfidf")):
        ended = tuneoff(*command, *data, "--out", path / "study")
        assert ended.code == 2
        assert "is not writable" in ended.err
        assert "Traceback" not in ended.err


def test_disk_too_small_for_the_data(
    tuneoff: Any, disk: tuple[Path, Mount], tiny_model: Any, toy_csv: Any
) -> None:
    path, mount = disk
    mount("size=12k")
    ended = tuneoff(
        *("compare", "--methods", "tfidf", "--model", tiny_model("bert")),
        *("--train", toy_csv(60), "--out", path / "study"),
    )
    assert ended.code in (1, 2)
    assert "the disk is full" in ended.err
    assert "Traceback" not in ended.err


# Kilobytes: less than the models; the last ones suffice for the first run's.
@pytest.mark.long
@pytest.mark.parametrize("size", [40, 100, 200, 500, 900, 1200, 1600, 2400])
def test_disk_that_becomes_full_during_a_study(
    tuneoff: Any, disk: tuple[Path, Mount], tiny_model: Any, toy_csv: Any, tmp_path: Path, size: int
) -> None:
    path, mount = disk
    mount(f"size={size}k")
    command = (
        *("compare", "--methods", "tfidf,full,lora", "--model", tiny_model("bert"), "--seeds", 1),
        *("--train", toy_csv(60), "--epochs", 2, "--precision", "fp32", "--out"),
    )
    full = tuneoff(*command, path / "study")
    assert full.code in (1, 2), full
    assert "disk is full" in full.err + full.out or "No space left" in full.err + full.out
    assert "Traceback" not in full.err
    folder = StudyFolder(path / "study")
    kept = {run.path.name: run.record() for run in folder.runs()}  # each is complete or missing
    finished = {name for name, r in kept.items() if r and r.status == Status.FINISHED}
    before = {name: (folder.runs_folder / name / "record.json").read_bytes() for name in finished}

    mount("size=64m")
    again = tuneoff(*command, path / "study")
    assert again.code == 0, again.err
    for name, content in before.items():
        assert (folder.runs_folder / name / "record.json").read_bytes() == content
    elsewhere = tuneoff(*command, tmp_path / "elsewhere")
    assert elsewhere.code == 0
    for run in StudyFolder(tmp_path / "elsewhere").runs():
        assert run.predictions().equals(folder.run(run.path.name).predictions())


def test_full_disk_keeps_the_checkpoint(
    run_toy: Any, toy_task: Any, disk: tuple[Path, Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without space for the best weights, the run fails, and resumes from its last checkpoint."""
    path, mount = disk
    mount("size=16m")
    task = toy_task("bert")
    whole = run_toy("full", task=task, epochs=3)
    expected = whole.folder.predictions()
    runs = whole.folder.path.parent
    shutil.rmtree(runs)
    runs.symlink_to(path)

    from tuneoff.engine.training.checkpoint import BestCheckpoint

    offer = BestCheckpoint.offer

    def crowded(self: Any, epoch: int, *rest: Any) -> bool:
        if epoch == 2:
            used = shutil.disk_usage(path).used // 1024
            mount(f"size={used + 64}k")  # enough for the record, not for the weights
        return offer(self, epoch, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(BestCheckpoint, "offer", crowded)
        failed = run_toy("full", task=task, epochs=3, checkpoint_seconds=0.0)
    assert failed.record.status == Status.FAILED
    assert "the disk is full" in failed.record.error
    assert list(failed.folder.checkpoint.glob("step-*"))
    mount("size=16m")
    again = run_toy("full", task=task, epochs=3)
    assert again.record.status == Status.FINISHED
    assert again.folder.predictions().equals(expected)


@pytest.mark.parametrize("file", ["rows.parquet", "train/ids.bin", "test/offsets.npy", "test"])
def test_deleted_data_is_prepared_again(toy_task: Any, tmp_path: Path, file: str) -> None:
    path = toy_task("bert").splits["train"].path.parent
    content = {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    victim = path / file
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    toy_task("bert")
    again = {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert again == content


def test_deleted_model_is_a_failed_run(run_toy: Any, tiny_model: Any, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("bert"), tmp_path / "model")
    (model / "model.safetensors").unlink()
    made = run_toy("full", model=model)
    assert made.record.status == Status.FAILED
    assert "model.safetensors" in (made.record.error or "")
    assert made.folder.record() == made.record


def test_link_out_of_the_study_is_rejected(
    tuneoff: Any, tiny_model: Any, toy_csv: Any, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "data").symlink_to(outside)
    data = ("--model", tiny_model("bert"), "--train", toy_csv(60), "--methods", "tfidf")
    ended = tuneoff("compare", *data, "--out", tmp_path / "study")
    assert ended.code == 2
    assert "is a link out of" in ended.err
    assert [p.name for p in outside.iterdir()] == ["precious"]


def test_names_stay_inside_the_folder(tmp_path: Path, hostile_strings: list[str]) -> None:
    from tuneoff.config import file_name

    for name in [*hostile_strings, "..", ".", "", "/", "a/../../b", "\\\\server\\x", "CON"]:
        path = RunFolder(tmp_path / "runs" / f"{file_name(name)}-s0-0").path
        assert path.parent == tmp_path / "runs"
        assert path.resolve().is_relative_to(tmp_path.resolve())
