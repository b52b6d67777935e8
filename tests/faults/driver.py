"""Test program for writes, run with the shim loaded.

It writes a state, and at each call in turn it is killed or the disk is full. It then reads the
state, and prints the results as a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tuneoff.engine.training.checkpoint import BestCheckpoint, Checkpoints, Point
from tuneoff.engine.training.journal import Journal
from tuneoff.results.record import DataInfo, MethodInfo, RunRecord, Status
from tuneoff.results.store import RunFolder, disk_trouble

SHIM = ctypes.CDLL(None)
COUNT, BEFORE, MIDWAY, FULL = range(4)


@dataclass(frozen=True)
class Kept:
    """Something on disk, with functions to write and to read a state."""

    write: Callable[[Path, int], None]
    """Write state number n; state 1 exists from the beginning."""
    read: Callable[[Path], int | None]
    """Return the number of the state that is read; None (no state) is an error."""


def tensors(number: int) -> dict[str, torch.Tensor]:
    return {name: torch.full((3000,), float(number)) for name in "abc"}


def save_checkpoint(folder: Path, number: int) -> None:
    Checkpoints(folder, "run", 60.0).save(number, Point(tensors(number), {"number": number}))


def read_checkpoint(folder: Path) -> int | None:
    point = Checkpoints(folder, "run", 60.0).latest()
    if point is None:
        return None
    number: int = point.state["number"]
    wanted = tensors(number)
    assert all(torch.equal(point.tensors[name], value) for name, value in wanted.items())
    return number


def save_best(folder: Path, number: int) -> None:
    BestCheckpoint(folder, "accuracy").offer(number, 0.1 * number, tensors(number))


def read_best(folder: Path) -> int | None:
    best, found = BestCheckpoint(folder, "accuracy"), tensors(0)
    if not best.go_on(1, 0.1, None):
        return None
    best.restore(found)
    number = int(found["a"][0])
    assert all(torch.equal(found[name], value) for name, value in tensors(number).items())
    return number


def record(number: int) -> RunRecord:
    return RunRecord(
        run_id="full-s0-0",
        status=Status.FINISHED,
        method=MethodInfo("full", "full", "selective", {}),
        seed=0,
        model="m",
        metric="macro_f1",
        data=DataInfo("f", 1, 1, 1, ["a", "b"]),
        train={"filler": "x" * 20_000},
        best_epoch=number,
    )


def read_record(folder: Path) -> int | None:
    found = RunFolder(folder).record()
    return found.best_epoch if found is not None else None


def read_predictions(folder: Path) -> int | None:
    return int(RunFolder(folder).predictions()["row"].iloc[0])


def write_history(folder: Path, number: int) -> None:
    file = RunFolder(folder).history_file
    journal = Journal(file, lambda event: None)
    journal.cut(file.read_text().rfind("\n") + 1)  # as a resumed run does
    journal.write("train", step=number, filler="x" * 500)
    journal.close()


def read_history(folder: Path) -> int | None:
    return int(RunFolder(folder).history()[-1]["step"])


KINDS = {
    "checkpoint": Kept(save_checkpoint, read_checkpoint),
    "best": Kept(save_best, read_best),
    "record": Kept(lambda f, n: RunFolder(f).write_record(record(n)), read_record),
    "predictions": Kept(
        lambda f, n: RunFolder(f).write_predictions(pd.DataFrame({"row": [n] * 5000})),
        read_predictions,
    ),
    "history": Kept(write_history, read_history),
}


def child(act: Callable[[], None], at: int, mode: int) -> tuple[int, int]:
    """Run `act` in a process with the fault, and return its wait status and number of calls."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 0
        SHIM.fault_arm(at, mode)
        try:
            act()
        except Exception as problem:
            code = 7 if disk_trouble(problem) else 8
            if code == 8:
                sys.stderr.write(f"{problem!r}\n")
        os.write(writing, str(SHIM.fault_count()).encode())
        os._exit(code)
    os.close(writing)
    counted = os.read(reading, 20)
    os.close(reading)
    return os.waitpid(process, 0)[1], int(counted or 0)


def survey(kind: str, home: Path) -> dict[str, Any]:
    """Return how many states could be read for every call and mode, and which ones."""
    kept, first, folder = KINDS[kind], home / "first", home / "now"
    first.mkdir(parents=True)
    kept.write(first, 1)
    shutil.copytree(first, folder)
    _, calls = child(lambda: kept.write(folder, 2), 0, COUNT)
    found: Counter[str] = Counter()
    for at in range(1, calls + 1):
        for mode in (BEFORE, MIDWAY, FULL):
            shutil.rmtree(folder)
            shutil.copytree(first, folder)
            status, _ = child(lambda: kept.write(folder, 2), at, mode)
            if mode == FULL:
                assert os.waitstatus_to_exitcode(status) in (0, 7), (kind, at, status)
                found["told" if status else "done"] += 1
            else:
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, (kind, at, status)
            state = kept.read(folder)
            found[{1: "old", 2: "new"}.get(state or 0, "torn")] += 1
            kept.write(folder, 3)  # the next write must succeed
            found["then"] += kept.read(folder) == 3
    return {"kind": kind, "calls": calls, **found}


if __name__ == "__main__":
    found = [survey(kind, Path(sys.argv[1]) / kind) for kind in KINDS]
    sys.stdout.write(json.dumps(found))
