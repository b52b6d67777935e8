"""One run per GPU: available devices, device of each worker, and concurrent runs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuneoff.config import StudySpec, parse_study
from tuneoff.display.progress import Quiet
from tuneoff.exceptions import BadInput
from tuneoff.results.record import Status
from tuneoff.results.store import StudyFolder
from tuneoff.scheduling import LocalLauncher, local_launcher
from tuneoff.scheduling.capacity import fastest_split, workers_for
from tuneoff.scheduling.gpus import visible_gpus
from tuneoff.scheduling.plan import complete
from tuneoff.scheduling.study import run_study

CARDS = [f"GPU-{i}{i}{i}{i}aaaa-0000-1111-2222-333344445555" for i in range(4)]
INSTANCES = [f"MIG-{i}{i}{i}{i}bbbb-0000-1111-2222-333344445555" for i in range(2)]
FOUR = "".join(f"GPU {i}: NVIDIA A100-SXM4-40GB (UUID: {x})\n" for i, x in enumerate(CARDS))
DIVIDED = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {CARDS[0]})\n"
    + "".join(f"  MIG 3g.20gb     Device  {i}: (UUID: {x})\n" for i, x in enumerate(INSTANCES))
    + f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {CARDS[1]})\n"
)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_workers: None) -> Any:
    """`nvidia_smi(listing)`: install a program of this name whose `-L` prints the listing."""

    def make(listing: str, code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "listing").write_text(listing)
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && cat {folder}/listing\nexit {code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("tuneoff.scheduling.gpus._DRIVER_FOLDER", tmp_path / "driver")
    return make


@pytest.mark.parametrize(
    ("listing", "variable", "found"),
    [
        (FOUR, None, CARDS),
        (FOUR, "2,3", ["2", "3"]),
        (FOUR, " 3 , 1 ", ["3", "1"]),
        (FOUR, "0,-1,2", ["0"]),  # CUDA ignores entries after an invalid one
        (FOUR, "0,7", ["0"]),
        (FOUR, "", []),
        (FOUR, "-1", []),
        (FOUR, "NoDevFiles", []),
        (FOUR, f"{CARDS[2]},{CARDS[0][:8]}", [CARDS[2], CARDS[0][:8]]),
        (FOUR, "GPU-beef", []),
        (DIVIDED, None, [*INSTANCES, CARDS[1]]),
        (DIVIDED, INSTANCES[1], [INSTANCES[1]]),
        (DIVIDED, ",".join(INSTANCES), INSTANCES),
        (DIVIDED, f"MIG-{CARDS[0]}/1/0", [f"MIG-{CARDS[0]}/1/0"]),  # drivers before 470
        ("No devices were found\n", None, []),
        ("No devices were found\n", "0,1", []),
    ],
)
def test_devices_of_this_process(
    nvidia_smi: Any, listing: str, variable: str | None, found: list[str]
) -> None:
    nvidia_smi(listing)
    given = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    assert visible_gpus(given) == found


@pytest.mark.parametrize("broken", [True, False])
def test_devices_without_nvml(
    nvidia_smi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    if broken:
        nvidia_smi("Failed to initialize NVML: Driver/library version mismatch\n", code=18)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))  # without nvidia-smi
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0"}) == []
    for place, uuid in enumerate(CARDS[:2]):
        folder = tmp_path / "driver" / f"0000:0{place}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t NVIDIA A10\nGPU UUID: \t {uuid}\n")
    assert visible_gpus({}) == CARDS[:2]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == ["1"]


def study(tiny_model: Any, train: Path, *methods: Any, **settings: Any) -> StudySpec:
    return complete(
        parse_study(
            {
                "model": str(tiny_model("bert")),
                "data": {"train": str(train)},
                "methods": list(methods),
                "seeds": 2,
                "train": {"threads": 1, "precision": "fp32", "epochs": 1, **settings},
            }
        )
    )


def environment(process: psutil.Process) -> dict[str, str]:
    """Return the environment of a process, which is empty for a moment after its start."""
    while not (found := process.environ()):
        time.sleep(0.001)
    return found


def seen_by_workers(before: set[psutil.Process]) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each worker, in the order of their start."""
    workers = [p for p in psutil.Process().children() if p not in before and p.is_running()]
    mine = psutil.Process().cmdline()
    while any(
        p.cmdline() in (mine, []) for p in workers
    ):  # a fork that has not executed the worker yet
        time.sleep(0.01)
    return [
        environment(p).get("CUDA_VISIBLE_DEVICES")
        for p in sorted(workers, key=lambda p: p.create_time())
    ]


@pytest.mark.parametrize(
    ("variable", "workers", "seen"),
    [
        (None, 4, CARDS),
        (None, 2, CARDS[:2]),
        ("3,1", 2, ["3", "1"]),
        ("3,1", 3, ["3", "1", "3"]),  # more runs than GPUs share them
        (f"{CARDS[1]},{CARDS[2]}", 2, CARDS[1:3]),
        ("", 2, ["", ""]),
    ],
)
def test_each_worker_sees_one_gpu(
    nvidia_smi: Any,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    workers: int,
    seen: list[str],
) -> None:
    nvidia_smi(FOUR)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    before = set(psutil.Process().children())
    with local_launcher(workers):
        assert seen_by_workers(before) == seen


def test_a_replaced_worker_keeps_its_gpu(
    nvidia_smi: Any, tiny_model: Any, toy_csv: Any, tmp_path: Path
) -> None:
    nvidia_smi(FOUR)
    asked = study(tiny_model, toy_csv(60), "head")
    before = set(psutil.Process().children())

    class Killing(Quiet):
        """Watcher that kills the worker of the first run."""

        killed = 0

        def progress(self, spec: Any, event: dict[str, Any]) -> None:
            if not self.killed and event.get("phase") == "load":
                self.killed = 1
                busy = [p for p in psutil.Process().children() if p not in before and p.children()]
                busy[0].kill()

    with local_launcher(2) as opened:
        _, records = run_study(asked, StudyFolder(tmp_path / "s"), launcher=opened, watch=Killing())
        alive = [
            p
            for p in psutil.Process().children()
            if p not in before and p.status() != psutil.STATUS_ZOMBIE
        ]
        devices = {environment(p)["CUDA_VISIBLE_DEVICES"] for p in alive}
    assert sorted(r.status for r in records) == [Status.FAILED, Status.FINISHED]
    assert devices == set(CARDS[:2])


def test_auto_is_one_run_per_gpu(nvidia_smi: Any, tiny_model: Any, toy_csv: Any) -> None:
    """With this PyTorch without CUDA, the runs use the CPU."""
    nvidia_smi(FOUR)
    asked = study(tiny_model, toy_csv(60), "head", "full", "lora")
    before, seen = set(psutil.Process().children()), list[list[str | None]]()
    with local_launcher("auto") as opened:
        assert seen_by_workers(before) == CARDS[:1]
        folder = Path(asked.data.train).parent / "data"
        opened.prepare(asked, folder, lambda event: seen.append(seen_by_workers(before)))
        assert seen[0] == CARDS
        assert opened.workers == workers_for(asked, CARDS, device="cpu")


@pytest.mark.parametrize(
    ("device", "gpus", "runs"),
    [
        ("auto", CARDS, 4),
        ("cuda", CARDS, 4),
        ("cuda", CARDS[:1], 1),
        ("cuda", [], 1),  # for example AMD GPUs, which cannot be counted
        ("mps", [], 1),
    ],
)
def test_number_of_runs_on_gpus(
    tiny_model: Any, toy_csv: Any, device: str, gpus: list[str], runs: int
) -> None:
    asked = study(tiny_model, toy_csv(60), "head", "full", "lora")
    assert workers_for(asked, gpus, device=device) == runs
    one = study(tiny_model, toy_csv(60), "head")
    assert workers_for(one, gpus, device=device) == min(runs, 2)  # it has two seeds


@pytest.mark.parametrize(
    ("cores", "methods", "seeds", "runs"),
    [
        (1, 5, 3, 1),
        (2, 5, 3, 2),
        (2, 1, 1, 1),
        (2, 1, 2, 2),
        (4, 5, 3, 4),
        (8, 1, 1, 1),
        (8, 5, 1, 3),  # the longest run would delay more of them
        (64, 5, 3, 9),  # with 7 threads each
    ],
)
def test_number_of_runs_on_a_cpu(cores: int, methods: int, seeds: int, runs: int) -> None:
    assert fastest_split(cores, methods, seeds, most=100) == runs
    assert fastest_split(cores, methods, seeds, most=0) == 1
    assert fastest_split(cores, methods, seeds, most=2) <= 2


def test_memory_limits_concurrent_runs(
    tiny_model: Any, toy_csv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneoff.scheduling.capacity.available_cores", lambda: 4)
    monkeypatch.setattr("tuneoff.scheduling.capacity.memory_bytes", lambda: 8 * 10**9)
    asked = study(tiny_model, toy_csv(60), "full", "head", "lora", "ia3", threads=None)
    sizes = {10**8: 4, 5 * 10**8: 2, 2 * 10**9: 1}
    found = {s: workers_for(asked, [], device="cpu", model_bytes=s) for s in sizes}
    assert found == sizes
    # a given number of threads is not divided again
    two = study(tiny_model, toy_csv(60), "full", "head", "lora", threads=2)
    assert workers_for(two, [], device="cpu") <= 2


@pytest.mark.parametrize("workers", ["0", "-1", "many", "", "1.5", 0])
def test_workers_is_a_number_or_auto(workers: Any) -> None:
    with pytest.raises(BadInput, match=r"'auto' or a positive number"):
        local_launcher(workers)
    assert isinstance(local_launcher("2"), LocalLauncher)
