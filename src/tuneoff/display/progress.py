"""Progress of a study: bars in a terminal, one bar in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tuneoff.config import RunSpec
from tuneoff.display.console import Terminal
from tuneoff.formatting import seconds as in_words
from tuneoff.formatting import setting
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord, Status, TaskRecord

PHASES = {
    "model": "finding the model",
    "data": "reading the data",
    "load": "loading",
    "train": "training",
    "validate": "validating",
    "test": "testing",
    "save": "saving",
    "check": "verifying the saved model",
    "probe": "measuring",
}


def watcher(*, quiet: bool = False) -> Quiet:
    """Return the progress display for where the code runs; with `quiet` one that shows nothing.

    A notebook gets one bar, a terminal (standard error) several bars, everything else lines.
    """
    from tuneoff.display.notebook import NotebookBar, in_notebook

    if quiet:
        return Quiet()
    if in_notebook():
        return NotebookBar()
    return Bars() if sys.stderr.isatty() else Lines()


class Quiet(AbstractContextManager["Quiet"]):
    """Progress display that shows nothing."""

    def __exit__(self, *_: object) -> None:
        return None

    def preparing(self, event: dict[str, Any]) -> None:
        """Do nothing."""

    def planned(self, runs: int, finished: int, task: TaskRecord, kind: str = "run") -> None:
        """Do nothing."""

    def started(self, spec: RunSpec) -> None:
        """Do nothing."""

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """Do nothing."""

    def ended(self, spec: RunSpec, record: RunRecord) -> None:
        """Do nothing."""


class Lines(Quiet):
    """Progress as lines: at the start and end of a run, and every 30 seconds in between."""

    EVERY = 30.0

    def __init__(self) -> None:
        self._console = Terminal(stderr=True, highlight=False)
        self._runs = self._done = 0
        self._said: dict[str, float] = {}

    def preparing(self, event: dict[str, Any]) -> None:
        """Show what is being prepared."""
        self._say(preparing_line(event))

    def planned(self, runs: int, finished: int, task: TaskRecord, kind: str = "run") -> None:
        """Show the number of runs and the size of the data."""
        self._runs, self._done = runs, finished
        self._say(plan_line(runs, finished, task, kind))
        for warning in task.warnings:
            self._say(f"note: {warning}")

    def started(self, spec: RunSpec) -> None:
        """Show the start of a run."""
        self._said[spec.run_id] = time.monotonic()
        self._say(f"{name_of(spec)}: started")

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """Show the progress of a run, at most every 30 seconds."""
        now = time.monotonic()
        if now - self._said[spec.run_id] >= self.EVERY and "step" in event:
            self._said[spec.run_id] = now
            self._say(f"{name_of(spec)}: {progress_line(event)}")

    def ended(self, spec: RunSpec, record: RunRecord) -> None:
        """Show the result of a run."""
        self._done += 1
        self._say(f"[{self._done}/{self._runs}] {end_line(spec, record)}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class Bars(Quiet):
    """Progress as bars: one for the study and one for each active run."""

    def __init__(self) -> None:
        self._console = Terminal(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[status]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._lock = threading.Lock()
        self._study: TaskID | None = None
        self._kind = "run"
        self._runs: dict[str, TaskID] = {}
        self._bars.start()

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def preparing(self, event: dict[str, Any]) -> None:
        """Show what is being prepared."""
        if self._study is None:
            self._study = self._bars.add_task("study", total=None, status="")
        self._bars.update(self._study, status=preparing_line(event))

    def planned(self, runs: int, finished: int, task: TaskRecord, kind: str = "run") -> None:
        """Show the number of runs and the size of the data."""
        self._kind = kind
        self._bars.console.print(plan_line(runs, finished, task, kind), markup=False)
        for warning in task.warnings:
            self._bars.console.print(f"note: {warning}", markup=False)
        assert self._study is not None
        self._bars.update(
            self._study, total=runs, completed=finished, status=f"{finished}/{runs} {kind}s"
        )

    def started(self, spec: RunSpec) -> None:
        """Add a bar for a run."""
        short = f"trial {spec.trial.number}" if spec.trial else f"s{spec.seed}"
        with self._lock:
            self._runs[spec.run_id] = self._bars.add_task(
                f"{spec.name} {short}", total=None, status=PHASES["load"]
            )

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """Update the bar of a run."""
        self._bars.update(
            self._runs[spec.run_id],
            completed=event.get("step"),
            total=event.get("steps"),
            status=progress_line(event),
        )

    def ended(self, spec: RunSpec, record: RunRecord) -> None:
        """Replace the bar of a run by a line with its result."""
        with self._lock:
            if (bar := self._runs.pop(spec.run_id, None)) is not None:
                self._bars.remove_task(bar)
            assert self._study is not None
            self._bars.advance(self._study)
            study = self._bars.tasks[0]
            self._bars.update(
                self._study, status=f"{study.completed:.0f}/{study.total or 0:.0f} {self._kind}s"
            )
            self._bars.console.print(end_line(spec, record), markup=False)


def name_of(spec: RunSpec) -> str:
    """Return the name of a run or trial, such as `lora, seed 0`."""
    return f"{spec.name}, " + (f"trial {spec.trial.number}" if spec.trial else f"seed {spec.seed}")


def plan_line(runs: int, finished: int, task: TaskRecord, kind: str = "run") -> str:
    """Return the numbers of runs, rows, labels and tokens."""
    rows = " / ".join(f"{task.splits[s].rows:,}" for s in ("train", "validation", "test"))
    text = (
        f"{runs} {kind}{'' if runs == 1 else 's'} on {rows} rows (train / validation / test),"
        f" {len(task.labels)} labels, up to {task.max_length} tokens"
    )
    return f"{text}; {finished} already finished" if finished else text


def preparing_line(event: dict[str, Any]) -> str:
    """Return the phase of the preparation, and the method if there is one."""
    return " ".join([PHASES[event["phase"]], *([event["of"]] if "of" in event else [])])


def progress_line(event: dict[str, Any]) -> str:
    """Return the phase of a run, its speed and the remaining time."""
    text = PHASES[event["phase"]]
    if "step" in event:
        text += f" {event['step']:,}/{event['steps']:,}"
    if "samples_per_second" in event:
        text += f", {event['samples_per_second']:,.0f} samples/s"
        text += f", {in_words(event['seconds_left'])} left"
    return text


def _trial_line(spec: RunSpec, record: RunRecord) -> str:
    score = getattr(record.quality.validation, spec.metric)
    rate = record.train.get("learning_rate")
    at = f" at learning rate {setting(rate)}" if rate else ""
    return f"{QUALITY_METRICS[spec.metric].title} {score:.4f} on validation{at}"


def end_line(spec: RunSpec, record: RunRecord) -> str:
    """Return the result of a run in a line."""
    name = name_of(spec)
    if record.status == Status.FINISHED and spec.trial is not None:
        return f"{name}: {_trial_line(spec, record)}, in {in_words(record.cost.total_seconds)}"
    if record.status != Status.FINISHED or record.quality.test is None:
        word = record.status.value.replace("_", " ")
        return f"{name}: {word}: {(record.error or '').partition(chr(10))[0]}"
    took = in_words(record.cost.total_seconds)
    test = record.quality.test
    text = f"{name}: accuracy {test.accuracy:.4f}, macro-F1 {test.macro_f1:.4f}, in {took}"
    return "\n  warning: ".join([text, *record.warnings])
