"""In a notebook, progress is one bar that is updated in place."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from notebooks import execute, of_cells

from tuneoff.config import RunSpec, TrainSpec
from tuneoff.display import notebook
from tuneoff.display.notebook import NotebookBar, in_notebook
from tuneoff.display.progress import watcher
from tuneoff.results.record import RunRecord, Status, TaskRecord


class Shown:
    """The output of a cell: its content, and how often it was displayed and updated."""

    def __init__(self) -> None:
        self.displayed = 0
        self.updates: list[dict[str, str]] = []

    def display(self, content: Any, *, display_id: bool) -> Shown:
        assert display_id
        self.displayed += 1
        self.update(content)
        return self

    def update(self, content: Any) -> None:
        self.updates.append(content._repr_mimebundle_(include=None, exclude=None))

    @property
    def lines(self) -> list[str]:
        return self.updates[-1]["text/plain"].split("\n")

    @property
    def html(self) -> str:
        return self.updates[-1]["text/html"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()
    monkeypatch.setattr("IPython.display.display", shown.display)
    return shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, as its only element."""
    now = [100.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    return now


def spec(name: str, seed: int = 0) -> RunSpec:
    return RunSpec(
        name=name,
        method="full",
        config={},
        model="m",
        train=TrainSpec(),
        seed=seed,
        metric="macro_f1",
        data_fingerprint="d",
        model_fingerprint="f",
    )


def test_one_output_with_runs_steps_and_time_left(
    shown: Shown, clock: list[float], task_record: TaskRecord, record: Callable[..., RunRecord]
) -> None:
    head, full = spec("head"), spec("full")
    with NotebookBar() as bar:
        bar.preparing({"phase": "data"})
        assert shown.lines == ["reading the data"]
        assert "<progress style" in shown.html  # without a value: it moves to and fro
        bar.planned(6, 2, task_record)
        assert shown.lines[0] == "2/6 runs"
        assert shown.lines[1].startswith("6 runs on 1,200 / 1,200 / 1,200 rows")
        bar.started(head)
        clock[0] += 60
        bar.ended(head, record("head", 0, 0.9))
        assert shown.lines[0] == "3/6 runs · about 3m 00s left"  # three more like the first
        bar.started(full)
        clock[0] += 60
        event = {"phase": "train", "step": 50, "steps": 100}
        bar.progress(full, {**event, "samples_per_second": 40.0, "seconds_left": 60.0})
        # 1.5 runs in two minutes, 2.5 of them to do
        assert shown.lines[0] == "3/6 runs · about 3m 20s left"
        assert shown.lines[2:] == ["full, seed 0: training 50/100, 40 samples/s, 1m 00s left"]
        assert 'value="3.500" max="6"' in shown.html
        clock[0] += 0.1
        before = len(shown.updates)
        bar.progress(full, event)
        assert len(shown.updates) == before  # too soon
    assert shown.displayed == 1
    assert shown.lines[0] == "3/6 runs · finished in 2m 00s"


def test_time_left_of_the_last_runs_is_their_own(
    shown: Shown, clock: list[float], task_record: TaskRecord
) -> None:
    bar = NotebookBar()
    bar.planned(2, 0, task_record)
    for name, left in (("head", 7.0), ("full", 31.0)):
        bar.started(spec(name))
        clock[0] += 1
        bar.progress(
            spec(name),
            {
                "phase": "train",
                "step": 1,
                "steps": 9,
                "samples_per_second": 1,
                "seconds_left": left,
            },
        )
    assert shown.lines[0] == "0/2 runs · about 31 s left"
    clock[0] += 1
    bar.progress(spec("full"), {"phase": "validate"})
    assert shown.lines[0] == "0/2 runs"  # nothing is known of one of them


def test_warnings_and_failures_are_below_the_bar(
    shown: Shown, task_record: TaskRecord, record: Callable[..., RunRecord]
) -> None:
    bar = NotebookBar()
    bar.planned(2, 0, replace(task_record, warnings=["two <rows> are odd\x1b[2J"]))
    warned = replace(record("head", 0, 0.9), warnings=["slow"])
    bar.ended(spec("head"), warned)
    bar.ended(spec("full"), record("full", 0, status=Status.OUT_OF_MEMORY, error="at 7 GB\nlog"))
    assert shown.lines[0] == "2/2 runs · writing the results"
    assert shown.lines[2:] == [
        "warning: two <rows> are odd\\u001b[2J",
        "warning: head, seed 0: slow",
        "warning: full, seed 0: out of memory: at 7 GB",
    ]
    assert "two &lt;rows&gt; are odd\\u001b[2J<br>" in shown.html
    many = [f"warning {i}" for i in range(30)]
    bar.planned(1, 0, replace(task_record, warnings=many))
    assert shown.lines[-1] == "and 13 more warnings"


def test_more_seeds_are_added_and_trials_are_counted_apart(
    shown: Shown, task_record: TaskRecord
) -> None:
    bar = NotebookBar()
    bar.planned(8, 8, task_record, "trial")
    assert shown.lines[0].startswith("8/8 trials")
    bar.planned(4, 3, task_record)
    assert shown.lines[0] == "3/4 runs"
    bar.planned(2, 0, task_record)
    assert shown.lines[0] == "3/6 runs"


@pytest.mark.parametrize(
    ("error", "word"), [(KeyboardInterrupt, "interrupted"), (ValueError, "stopped")]
)
def test_the_bar_says_how_it_ended(
    shown: Shown, task_record: TaskRecord, error: type[BaseException], word: str
) -> None:
    bar = NotebookBar()
    bar.planned(2, 0, task_record)
    bar.started(spec("full"))
    with pytest.raises(error), bar:
        raise error
    assert re.fullmatch(rf"0/2 runs · {word} after .* s", shown.lines[0])
    assert not any("full, seed 0" in line for line in shown.lines)


def test_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell: ...

    class Colab(ZMQInteractiveShell): ...

    class TerminalInteractiveShell: ...

    class IPython:
        shell: Any = None

        @classmethod
        def get_ipython(cls) -> Any:
            return cls.shell

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", IPython)  # type: ignore[arg-type]
    for shell, expected in [(None, False), (TerminalInteractiveShell(), False), (Colab(), True)]:
        monkeypatch.setattr(IPython, "shell", shell)
        assert in_notebook() is expected
        assert isinstance(watcher(), NotebookBar) is expected
        assert not isinstance(watcher(quiet=True), NotebookBar)


DRIVER = """
import json, threading
from pathlib import Path
from tuneoff.config import RunSpec, TrainSpec
from tuneoff.display.progress import watcher
from tuneoff.results.record import TaskRecord

task = TaskRecord.from_plain(json.loads(Path("task.json").read_text()))
specs = [RunSpec(name="full", method="full", config={}, model="m", train=TrainSpec(), seed=seed,
    metric="macro_f1", data_fingerprint="d", model_fingerprint="f") for seed in range(2)]

def run(bar, spec):  # as a study does, in a thread of each run
    bar.started(spec)
    for step in range(1, 4):
        bar.progress(spec, {"phase": "train", "step": step, "steps": 3})
"""
RUN = """
print("before")
with watcher() as bar:
    bar.EVERY = 0
    bar.planned(2, 0, task)
    threads = [threading.Thread(target=run, args=(bar, spec)) for spec in specs]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print("after")
"""


def test_a_kernel_updates_one_output_from_threads(tmp_path: Path, task_record: TaskRecord) -> None:
    (tmp_path / "task.json").write_text(json.dumps(task_record.to_plain()))
    cells = of_cells(DRIVER, RUN, RUN)
    recorder = execute(cells, tmp_path)
    for place in (1, 2):
        outputs = cells.cells[place].outputs
        assert [out.output_type for out in outputs] == ["stream", "display_data", "stream"]
        assert outputs[1].data["text/plain"].startswith("0/2 runs · finished in ")
        types = [kind for cell, kind, _ in recorder.displays if cell == place]
        assert types == ["display_data", *["update_display_data"] * (2 * 4 + 1)]
        seen = [data["text/plain"] for cell, _, data in recorder.displays if cell == place]
        assert any("full, seed 1: training 3/3" in text for text in seen)
