"""Killed processes (run, worker, command): the study can be resumed, and no process remains.

`make crash-test` also runs the tests marked `long`: a second signal, and two more kills.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tuneoff.config import RunSpec, StudySpec, parse_study
from tuneoff.display.progress import Quiet
from tuneoff.exceptions import BadInput
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import StudyFolder, alone_in
from tuneoff.scheduling import LocalLauncher, local_launcher
from tuneoff.scheduling.plan import complete
from tuneoff.scheduling.process import Worker
from tuneoff.scheduling.study import run_study

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers fork")

LONG = {"method": "full", "name": "long", "epochs": 100_000}
"""A run that does not end by itself."""
# A process started in the background of a shell ignores Ctrl-C, and so would its children.
TUNEOFF = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from tuneoff.cli import main
main()
"""


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the workers of `process`; the first child of each is the current run."""
    return [p for p in process.children() if "tuneoff.scheduling.worker" in p.cmdline()]


def active_worker() -> psutil.Process:
    """Return the only worker of this process with a current run; others may be idle."""
    (worker,) = (w for w in workers_of(psutil.Process()) if w.children())
    return worker


def all_ended(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


class WatchTraining(Quiet):
    """Watcher that calls `act` once when the run `name` trains, and records starts and ends."""

    def __init__(self, name: str = "long", act: Callable[[], None] = lambda: None) -> None:
        self.name, self.act = name, act
        self.seen: list[tuple[str, str]] = []

    def started(self, spec: RunSpec) -> None:
        self.seen.append(("started", spec.name))

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        if spec.name == self.name and "step" in event:
            self.act()
            self.act = lambda: None

    def ended(self, spec: RunSpec, record: RunRecord) -> None:
        self.seen.append(("ended", spec.name))


@pytest.fixture(scope="module")
def local() -> Iterator[LocalLauncher]:
    with local_launcher() as opened:
        yield opened


@pytest.fixture
def study(tiny_model: Any, toy_csv: Any) -> Callable[..., StudySpec]:
    def make(*methods: Any) -> StudySpec:
        return complete(
            parse_study(
                {
                    "model": str(tiny_model("bert")),
                    "data": {"train": str(toy_csv(60))},
                    "methods": list(methods),
                    "seeds": 1,
                    "train": {"threads": 1, "precision": "fp32"},
                }
            )
        )

    return make


class WatchCheck(WatchTraining):
    """Watcher that calls `act` once when a saved model is reopened."""

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        if event.get("phase") == "check":
            self.act()
            self.act = lambda: None


def test_interrupted_check_is_repeated(
    study: Callable[..., StudySpec], local: LocalLauncher, tmp_path: Path
) -> None:
    """The run is killed between its record and the check of its saved model."""

    def kill() -> None:
        active_worker().children()[0].kill()

    folder, asked = StudyFolder(tmp_path), study("lora")
    _, (record,) = run_study(asked, folder, launcher=local, watch=WatchCheck(act=kill))
    run = folder.run(record.run_id)
    assert record.status is Status.FINISHED
    assert record.checks is not None
    assert record.checks.reopened is None
    assert run.sample_file.is_file()
    answered = run.predictions_file.read_bytes()
    watch = WatchTraining()
    _, (again,) = run_study(asked, folder, launcher=local, watch=watch)
    assert watch.seen == []  # it was not run again
    assert again.checks is not None
    assert again.checks.reopened is not None
    assert again.checks.merged is not None
    assert not run.sample_file.exists()
    assert run.predictions_file.read_bytes() == answered


@pytest.mark.parametrize("victim", ["run", "worker"])
def test_killed_process_is_recorded_and_the_study_continues(
    local: LocalLauncher, study: Any, tmp_path: Path, victim: str
) -> None:
    killed: list[psutil.Process] = []

    def kill() -> None:
        worker = active_worker()
        (run,) = worker.children()
        killed.extend([run] if victim == "run" else [worker, run])
        killed[0].kill()

    folder = StudyFolder(tmp_path / "study")
    _, records = run_study(
        study(LONG, "tfidf"), folder, launcher=local, watch=WatchTraining(act=kill)
    )
    assert [r.status for r in records][1] == Status.FINISHED
    dead = records[0]
    assert dead.status in (Status.FAILED, Status.OUT_OF_MEMORY)  # if the machine was out of memory
    assert "signal 9" in (dead.error or "")
    assert dead.quality.test is None
    assert folder.run(dead.run_id).record() == dead
    assert isinstance(folder.run(dead.run_id).history(), list)  # an incomplete row is skipped
    assert all_ended(killed)


def holds_engine(worker: psutil.Process) -> bool:
    return any("torch" in Path(mapped.path).name for mapped in worker.memory_maps())


@pytest.mark.skipif(sys.platform != "linux", reason="reads what a process has mapped")
@pytest.mark.usefixtures("fresh_workers")
def test_other_workers_load_the_engine_in_advance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuneoff.scheduling.local.available_cores", lambda: 2)
    before = workers_of(psutil.Process())
    with local_launcher(workers=2):
        first, second = sorted(
            (w for w in workers_of(psutil.Process()) if w not in before), key=lambda w: w.pid
        )
        wait_for(lambda: holds_engine(second))
        assert not holds_engine(first)  # it reads the data first


def test_child_of_a_loaded_worker_can_compute(study: Any, tmp_path: Path) -> None:
    """It would hang if another thread than the main one had imported PyTorch."""
    worker, asked = Worker(load=True), study(LONG)
    try:
        request = {"do": "prepare", "model": asked.model, "data": asdict(asked.data)}
        request |= {"max_length": 64, "device": "cpu", "precisions": [], "folder": str(tmp_path)}
        assert [e for e in worker.ask(request) if e["event"] == "prepared"]
    finally:
        worker.close()


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.usefixtures("fresh_workers")
def test_two_workers_run_at_the_same_time(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    # With more than one core, the second worker loads the engine in advance.
    monkeypatch.setattr("tuneoff.scheduling.local.available_cores", lambda: cores)
    # Each run waits until the other one has started, so one worker would never finish.
    meeting = threading.Barrier(2, timeout=1200)

    class Both(WatchTraining):
        def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
            if event["phase"] == "load":
                meeting.wait()

    watch, before = Both(), workers_of(psutil.Process())
    asked = study({"method": "head", "epochs": 1}, {"method": "full", "epochs": 1})
    with local_launcher(workers=2) as two:
        _, records = run_study(asked, StudyFolder(tmp_path), launcher=two, watch=watch)
        workers = [w for w in workers_of(psutil.Process()) if w not in before]
        assert len(workers) == 2
    assert [r.status for r in records] == [Status.FINISHED] * 2
    assert {kind for kind, _ in watch.seen[:2]} == {"started"}
    assert all_ended(workers)


def start(study: StudySpec, out: Path, *options: str) -> subprocess.Popen[str]:
    folder = StudyFolder(out)
    folder.write_spec(study)
    command = ["compare", str(folder.spec_file), "--out", str(out), *options]
    return subprocess.Popen(
        [sys.executable, "-c", TUNEOFF, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(found: Callable[[], Any]) -> Any:
    """Return the first true result of `found`; only pytest's timeout ends the wait."""
    while not (result := found()):
        time.sleep(0.02)
    return result


def kill_all(command: subprocess.Popen[str]) -> None:
    """Kill a command and all its descendants at once, if it has not ended yet."""
    if command.poll() is None:
        parent = psutil.Process(command.pid)
        for process in [*parent.children(recursive=True), parent]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    command.communicate()


def training(command: subprocess.Popen[str], out: Path, name: str) -> list[psutil.Process]:
    """Wait until the run `name` has trained for an epoch; return the workers and children."""
    wait_for(
        lambda: any("validation" in f.read_text() for f in out.glob(f"runs/{name}-*/history.jsonl"))
    )
    workers = workers_of(psutil.Process(command.pid))
    return [*workers, *(child for worker in workers for child in worker.children())]


def test_no_process_survives_the_command(study: Any, tmp_path: Path) -> None:
    command = start(study(LONG), tmp_path)
    left = training(command, tmp_path, "long")
    assert len(left) == 2
    command.kill()
    command.communicate()
    wait_for(lambda: all_ended(left))


def test_ctrl_c_keeps_finished_runs_and_the_command_resumes(
    study: Any, tuneoff: Any, tmp_path: Path
) -> None:
    asked = study("tfidf", {"method": "full", "name": "long", "epochs": 100})
    command = start(
        asked, tmp_path, "--workers", "1"
    )  # tfidf has finished when the other run trains
    left = training(command, tmp_path, "long")
    os.kill(command.pid, signal.SIGINT)
    _, err = command.communicate()
    assert command.returncode == 130, err
    assert "Interrupted. Finished runs are kept. Rerun the same command to resume:" in err
    assert "Traceback" not in err
    assert all_ended(left)
    folder = StudyFolder(tmp_path)
    records = {r.method.name: r for run in folder.runs() if (r := run.record())}
    assert records["tfidf"].status == Status.FINISHED
    assert records["long"].status == Status.INTERRUPTED
    kept = folder.run(records["tfidf"].run_id).record_file.stat().st_mtime_ns

    ended = tuneoff("compare", folder.spec_file, "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert "1 already finished" in ended.err
    assert folder.run(records["tfidf"].run_id).record_file.stat().st_mtime_ns == kept
    record = folder.run(records["long"].run_id).record()
    assert record is not None
    assert record.status == Status.FINISHED


def answers(folder: StudyFolder, name: str) -> tuple[dict[str, Any], Any]:
    """Return the saved weights and the predictions of a study's only run of this name."""
    (run,) = (run for run in folder.runs() if run.path.name.startswith(name))
    record = run.record()
    assert record is not None
    assert record.status == Status.FINISHED, record.error
    return load_file(run.model / "model.safetensors"), run.predictions()


def assert_same(one: StudyFolder, other: StudyFolder, name: str) -> None:
    (weights, predictions), (again, predicted_again) = answers(one, name), answers(other, name)
    assert weights.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in weights.items())
    assert predictions.equals(predicted_again)


SOME = {"method": "full", "name": "some", "epochs": 30}
"""A run of a few seconds."""


@pytest.fixture(scope="module")
def undisturbed(
    local: LocalLauncher, tiny_model: Any, shared_csv: Any, tmp_path_factory: Any
) -> tuple[StudySpec, StudyFolder]:
    """`SOME`, and its result without interruption."""
    content = {
        "model": str(tiny_model("bert")),
        "data": {"train": str(shared_csv(60, name="deaths.csv"))},
        "methods": [SOME],
        "seeds": 1,
        "train": {"threads": 1, "precision": "fp32", "checkpoint_seconds": 0.1},
    }
    asked = complete(parse_study(content))
    folder = StudyFolder(tmp_path_factory.mktemp("undisturbed"))
    run_study(asked, folder, launcher=local, watch=Quiet())
    return asked, folder


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        # The test of Ctrl-C above checks the other consequences.
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        (signal.SIGTERM, 143),
    ],
)
def test_run_interrupted_by_signal_resumes_with_equal_result(
    undisturbed: tuple[StudySpec, StudyFolder], tuneoff: Any, tmp_path: Path, sent: Any, code: int
) -> None:
    asked, whole = undisturbed
    command = start(asked, tmp_path)
    left = training(command, tmp_path, "some")
    os.kill(command.pid, sent)
    _, err = command.communicate()
    assert command.returncode == code, err
    assert "Rerun the same command to resume" in err
    assert all_ended(left)
    folder = StudyFolder(tmp_path)
    (run,) = folder.runs()
    record = run.record()
    assert record is not None
    assert record.status == Status.INTERRUPTED
    assert list(run.checkpoint.glob("step-*"))
    before = len(run.history())

    ended = tuneoff("compare", folder.spec_file, "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert before > 0
    assert_same(folder, whole, "some")
    assert not run.checkpoint.exists()


@pytest.mark.parametrize("kills", [2, pytest.param(4, marks=pytest.mark.long)])
def test_study_killed_at_any_moment_has_equal_result(
    undisturbed: tuple[StudySpec, StudyFolder], tuneoff: Any, tmp_path: Path, kills: int
) -> None:
    """All processes are killed at once, several times, at any moment."""
    asked, whole = undisturbed
    folder = StudyFolder(tmp_path)
    draw = random.Random(0)
    for attempt in range(kills):
        command = start(asked, tmp_path)
        # From the second attempt on, wait for a checkpoint; a fast machine may finish before.
        while attempt and not any(tmp_path.glob("runs/*/checkpoint/*")) and command.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.random() * 2)
        kill_all(command)
    ended = tuneoff("compare", folder.spec_file, "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert_same(folder, whole, "some")


def test_two_studies_in_one_folder_are_an_error(study: Any, tuneoff: Any, tmp_path: Path) -> None:
    command = start(study(LONG), tmp_path)
    left = training(command, tmp_path, "long")
    second = tuneoff("compare", StudyFolder(tmp_path).spec_file, "--out", tmp_path)
    assert second.code == 2
    assert "is in use by another tuneoff process" in second.err
    assert command.poll() is None
    command.kill()  # release the folder, whatever the outcome
    command.communicate()
    wait_for(lambda: all_ended(left))
    with alone_in(tmp_path):
        pass


def test_number_of_workers() -> None:
    with pytest.raises(BadInput, match="workers must be 'auto' or a positive number, not 0"):
        local_launcher(0)
