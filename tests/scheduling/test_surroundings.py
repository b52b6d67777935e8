"""Environment of workers: import path, variables of launchers, start method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuneoff.config import RunSpec, parse_study
from tuneoff.display.progress import Quiet
from tuneoff.exceptions import BadInput
from tuneoff.results.record import Status
from tuneoff.results.store import StudyFolder
from tuneoff.scheduling import local_launcher
from tuneoff.scheduling.plan import complete
from tuneoff.scheduling.study import run_study

SHADOWED = (
    *("random", "json", "selectors", "tempfile", "statistics", "numpy", "pandas", "pyarrow"),
    *("torch", "transformers", "peft", "tokenizers", "safetensors", "sklearn", "datasets"),
    *("accelerate", "bitsandbytes", "tuneoff", "sitecustomize", "usercustomize"),
)
"""Modules that workers import, and whose names files in a folder of data may have."""
STUDY = 'methods=["tfidf", "lora"], seeds=1, epochs=1, precision="fp32", threads=1, progress=False'


def shadow(folder: Path, names: tuple[str, ...] = SHADOWED) -> Path:
    for name in names:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'RAN')!r}, 'a').write({name!r})\nraise ImportError('a namesake')\n"
        )
    return folder


def finished(command: list[Any], cwd: Path, **environment: str) -> str:
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    result = subprocess.run(
        [*map(str, command)], cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def data(tmp_path: Path, toy_csv: Any) -> Path:
    """A folder with data and with code."""
    toy_csv(60)
    return shadow(tmp_path)


def test_command_does_not_import_from_the_working_folder(data: Path, tiny_model: Any) -> None:
    program = Path(sys.executable).with_name("tuneoff")
    study = ["--model", tiny_model("bert"), "--train", "toy.csv", "--epochs", 1, "--threads", 1]
    study += ["--methods", "tfidf,lora", "--seeds", 1, "--precision", "fp32"]
    finished([program, "compare", *study], data)
    assert not (data / "RAN").exists()
    run = next((data / "studies" / "study" / "runs").glob("lora-*"))
    finished([program, "predict", run, "toy.csv", "--out", "said.csv"], data)
    assert not (data / "RAN").exists()


@pytest.mark.parametrize("where", ["elsewhere", "beside"])
def test_workers_do_not_import_from_the_folder_of_a_script(
    data: Path, tiny_model: Any, where: str
) -> None:
    """The folder of a script is on its import path, but not on that of the workers."""
    if where == "beside":
        for name in SHADOWED:
            if name not in ("peft", "transformers", "torch"):  # the script itself imports these
                (data / f"{name}.py").unlink()
    home = data if where == "beside" else data / "elsewhere"
    home.mkdir(exist_ok=True)
    script = home / "script.py"
    script.write_text(
        f"import tuneoff\n"
        f"tuneoff.compare(model={str(tiny_model('bert'))!r}, train='toy.csv', {STUDY})\n"
    )
    empty = (
        {"PYTHONPATH": os.pathsep} if where == "beside" else {}
    )  # Python interprets this as the working folder
    finished([sys.executable, script], data, **empty)
    assert not (data / "RAN").exists()
    records = [run.record() for run in StudyFolder(data / "studies" / "study").runs()]
    assert [record.status for record in records if record] == [Status.FINISHED] * 2


def test_workers_have_the_import_path_of_their_parent(tmp_path: Path) -> None:
    """The order is the same, except for the folders that Python adds at the beginning."""
    for name in ("added", "named", "script"):
        (tmp_path / name).mkdir()
    (tmp_path / "added" / "show_path.py").write_text(
        "import json, sys; print(json.dumps(sys.path))"
    )
    script = tmp_path / "script" / "script.py"
    script.write_text(
        "import subprocess, sys\n"
        f"sys.path.insert(1, {str(tmp_path / 'added')!r})\n"
        "from tuneoff.scheduling.process import python_command\n"
        "subprocess.run(python_command('show_path'), check=True)\n"
    )
    named = str(tmp_path / "named")
    shown = json.loads(finished([sys.executable, script], tmp_path, PYTHONPATH=named))
    assert shown[:2] == [str(tmp_path / "added"), named]
    assert str(tmp_path / "script") not in shown
    assert str(tmp_path) not in shown
    assert all(os.path.isabs(entry) for entry in shown)
    # the working folder is kept if PYTHONPATH contains it
    shown = json.loads(finished([sys.executable, script], tmp_path / "named", PYTHONPATH=named))
    assert named in shown


VARIABLES = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "GROUP_RANK": "0",
    "ROLE_NAME": "default",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "OMPI_COMM_WORLD_SIZE": "1",
    "PMI_RANK": "0",
}
"""Variables that torchrun, Accelerate and MPI set for a single process."""


@pytest.mark.usefixtures("fresh_workers")
def test_variables_of_distributed_launchers_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_MAP", "kept")
    before = set(psutil.Process().children())
    with local_launcher():
        (worker,) = set(psutil.Process().children()) - before
        while not (environment := worker.environ()):  # empty for a moment after the start
            time.sleep(0.001)
    assert not environment.keys() & VARIABLES.keys()
    assert environment["WORLD_MAP"] == "kept"


@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_several_processes_are_an_error(
    name: str, tuneoff: Any, toy_csv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "4")
    with pytest.raises(BadInput, match=f"{name} is 4: a distributed launcher started"):
        local_launcher()
    out = tmp_path / "study"
    result = tuneoff("compare", "--model", "m", "--train", toy_csv(60), "--out", out)
    assert result.code == 2
    assert f"{name} is 4" in result.err
    assert "--workers" in result.err
    assert not out.exists()
    monkeypatch.setenv(name, "1")
    local_launcher()


class Commands(Quiet):
    """Watcher that records the commands of training processes, and optionally kills one."""

    def __init__(self, kill: str | None = None) -> None:
        self.kill, self.seen = kill, list[list[str]]()

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        if "step" not in event:
            return
        for process in psutil.Process().children(recursive=True):
            try:
                command = process.cmdline()
                if "--request" in command:
                    self.seen.append(command)
                    if spec.name == self.kill:
                        process.kill()
            except psutil.NoSuchProcess:
                continue


@pytest.mark.usefixtures("fresh_workers")
def test_runs_are_new_processes_if_forks_cannot_use_cuda(
    tiny_model: Any, toy_csv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch reports CUDA as initialised in the parent, as on MIG or without NVML."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(
        "import torch\ntorch.cuda._is_in_bad_fork = lambda: True\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    content = {
        "model": str(tiny_model("bert")),
        "data": {"train": str(toy_csv(60))},
        "methods": [{"method": "full", "name": "killed", "epochs": 100_000}, "lora"],
        "seeds": 1,
        "train": {"threads": 1, "precision": "fp32"},
    }
    watch = Commands(kill="killed")
    folder = StudyFolder(tmp_path / "study")
    with local_launcher() as opened:
        _, records = run_study(complete(parse_study(content)), folder, launcher=opened, watch=watch)
    assert [record.status for record in records] == ["failed", "finished"]
    assert "signal 9" in (records[0].error or "")
    assert watch.seen
    lora = records[1]
    assert lora.checks is not None
    assert lora.checks.reopened is not None  # the check has its own process, too
    assert lora.environment["concurrent_runs"] == 1
