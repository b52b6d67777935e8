"""Runs for which the disk is full from each of their calls on.

The failure is recorded, other files are unchanged, and the same command with free space gives the
result of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config import RunSpec, parse_study
from tuneoff.display.progress import Quiet
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import RunFolder, StudyFolder
from tuneoff.scheduling import LocalLauncher, Prepared
from tuneoff.scheduling.plan import complete, plan
from tuneoff.scheduling.study import prepare, run_one

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux")

COUNT, FULL = 0, 3
METHODS = ("full", "lora", "partial")
"""Methods of the runs; `partial` caches the states of its frozen layers in the study's folder."""

SAMPLE = 3
"""Number of calls of each run that the default tests use."""


def content(path: Path) -> dict[str, str]:
    """Return the hash of every file below `path`, by relative name."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def answers(run: RunFolder, record: RunRecord) -> dict[str, Any]:
    """Return the results of a run without times."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]
    return {
        "quality": record.quality,
        "parameters": record.parameters,
        "warnings": record.warnings,
        "predictions": run.predictions().to_csv(float_format="%.17g"),
        "history": [{k: v for k, v in row.items() if "per_second" not in k} for row in history],
        # PEFT writes sets in any order
        "model": {k: v for k, v in content(run.model).items() if k != "adapter_config.json"},
        "files": sorted(str(file.relative_to(run.path)) for file in run.path.rglob("*")),
    }


@dataclass
class Bench:
    """A study with a worker whose next run can be given a fault."""

    home: StudyFolder
    prepared: Prepared
    launcher: LocalLauncher
    fault: Path
    specs: dict[str, RunSpec]

    def run(self, method: str, at: int = 0, mode: int | None = None) -> RunRecord:
        """Run a method as in a study, with the fault at call number `at` of its process."""
        if mode is not None:
            self.fault.write_text(f"{at} {mode}")
        spec = self.specs[method]
        folder = self.home.run(spec.run_id)
        record = run_one(spec, folder, self.prepared, launcher=self.launcher, watch=Quiet())
        assert not self.fault.exists()
        return record

    def folder(self, method: str) -> RunFolder:
        return self.home.run(self.specs[method].run_id)

    def counted(self) -> int:
        """Return the number of calls of the last run."""
        return int(self.fault.with_suffix(".count").read_text())


@pytest.fixture(scope="module")
def bench(
    shim: Path, tiny_model: Any, shared_csv: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    home = StudyFolder(tmp_path_factory.mktemp("whole") / "study")
    fault = home.path.with_name("fault")
    study = complete(
        parse_study(
            {
                "model": str(tiny_model("bert")),
                "data": {"train": str(shared_csv(30, name="whole.csv"))},
                "methods": ["tfidf", *METHODS],
                "seeds": 1,
                "train": {
                    "epochs": 2,
                    "batch_size": 16,
                    "learning_rate": 2e-3,
                    "precision": "fp32",
                    "device": "cpu",
                    "threads": 1,
                    "checkpoint_seconds": 0,  # after every step
                },
            }
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(shim))
        patch.setenv("TUNEOFF_FAULT", str(fault))
        with LocalLauncher() as launcher:
            prepared = prepare(study, home, launcher, Quiet())
            specs = {spec.name: spec for spec in plan(study, prepared)}
            made = Bench(home, prepared, launcher, fault, specs)
            assert made.run("tfidf").status == Status.FINISHED  # an earlier result
            yield made


@pytest.fixture(scope="module")
def whole(bench: Bench) -> Callable[[str], tuple[dict[str, Any], int]]:
    """Return the result of a run with free space, and its calls; no states are cached before."""
    known: dict[str, tuple[dict[str, Any], int]] = {}

    def of(method: str) -> tuple[dict[str, Any], int]:
        if method not in known:
            record = bench.run(method, 0, COUNT)
            assert record.status == Status.FINISHED, record.error
            known[method] = answers(bench.folder(method), record), bench.counted()
            forget(bench, method)
        return known[method]

    return of


def forget(bench: Bench, method: str) -> None:
    """Restore the study to its state before this run."""
    shutil.rmtree(bench.folder(method).path)
    for states in bench.prepared.task_path.glob("states*"):
        shutil.rmtree(states)


def assert_a_full_disk_does_no_harm(
    bench: Bench, whole: Any, method: str, points: Callable[[int], Sequence[int]]
) -> None:
    """Check that a disk that is full from each call in `points` on does no harm."""
    expected, calls = whole(method)
    assert calls > 40
    before = content(bench.home.path)
    told = 0
    for at in points(calls):
        record, where = bench.run(method, at, FULL), (method, at)
        if record.status == Status.FINISHED:  # only the last flush failed
            assert at > calls - 5, where
        else:
            assert record.status == Status.FAILED, where
            assert "the disk is full" in (record.error or ""), (where, record.error)
            told += 1
        now = content(bench.home.path)
        assert {name: now.get(name) for name in before} == before, where
        again = record if record.status == Status.FINISHED else bench.run(method)
        assert again.status == Status.FINISHED, (where, again.error)
        found = answers(bench.folder(method), again)
        if record.status != Status.FINISHED:
            assert [name for name in expected if found[name] != expected[name]] == [], where
        assert found["predictions"] == expected["predictions"], where
        forget(bench, method)
    assert told >= len(points(calls)) - 5


def every(calls: int) -> range:
    return range(1, calls + 1)


def some(calls: int) -> list[int]:
    return [1 + i * (calls - 2) // (SAMPLE - 1) for i in range(SAMPLE)]


@pytest.mark.parametrize("method", METHODS)
def test_disk_full_from_some_calls_on(bench: Bench, whole: Any, method: str) -> None:
    assert_a_full_disk_does_no_harm(bench, whole, method, some)


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_disk_full_from_each_call_on(bench: Bench, whole: Any, method: str) -> None:
    assert_a_full_disk_does_no_harm(bench, whole, method, every)


def test_command_reports_the_full_disk_and_continues(
    tuneoff: Any, bench: Bench, shim: Path, tiny_model: Any, toy_csv: Any, tmp_path: Path
) -> None:
    command = (
        *("compare", "--methods", "full", "--model", tiny_model("bert"), "--train", toy_csv(30)),
        *("--seeds", 1, "--epochs", 2, "--precision", "fp32", "--out"),
    )
    forks = 3  # they prepare the data, test whether forks can use CUDA, and check the method
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(shim))
        patch.setenv("TUNEOFF_FAULT", str(bench.fault))
        bench.fault.write_text(f"8 {FULL} {forks}")
        full = tuneoff(*command, tmp_path / "study")
        assert not bench.fault.exists()
    assert full.code == 1
    assert "the disk is full" in full.out + full.err
    assert "Traceback" not in full.out + full.err
    assert tuneoff(*command, tmp_path / "study").code == 0
    assert tuneoff(*command, tmp_path / "elsewhere").code == 0
    (run,) = StudyFolder(tmp_path / "study").runs()
    (expected,) = StudyFolder(tmp_path / "elsewhere").runs()
    assert run.predictions().equals(expected.predictions())
