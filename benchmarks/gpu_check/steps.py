"""Synchronisations and kernels of ten steps of a training in BERT-base's shape."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from check import Check
from models import base_model, drawn_rows

import tuneoff
from engine import Material, after_each_step, prepared, run_method

WINDOW = 10
"""Number of observed steps."""

TOP = 12
"""Number of kernels in the summary."""

PACKAGE = Path(tuneoff.__file__).parent


@dataclass(frozen=True)
class Place:
    """Position of the observed steps in a training, without logging, validation or checkpoint.

    A training logs its loss a hundred times, and validates after each epoch.
    """

    texts: str
    batch_size: int
    epochs: int
    first: int
    """Step after which the observed steps begin."""


# With 7,680 pairs, an epoch has 960 steps of 8, and every 96th one logs. With 3,840 reviews, an
# epoch has 120 steps of 32, and every 48th one logs.
PLACES = {"snli": Place("snli", 8, 10, 485), "imdb": Place("imdb", 32, 40, 98)}
SMALL = {"snli": Place("snli", 8, 100, 4), "imdb": Place("imdb", 32, 400, 1)}


class _Enough(Exception):
    """Ends a run after the observed steps, without a checkpoint to resume from."""


def _material(check: Check, texts: str) -> Material:
    model = base_model(check.work, small=not check.on_gpu)
    rows = drawn_rows(check.work, texts, small=not check.on_gpu)
    files = {split: str(rows / f"{split}.csv") for split in ("train", "validation", "test")}
    pair = {"text_pair": "text_pair"} if texts == "snli" else {}
    return prepared(check.work / f"steps-{texts}-{os.getpid()}", model, 512, **files, **pair)


def _watched(
    check: Check, place: Place, method: str, begin: Callable[[], None], end: Callable[[], None]
) -> None:
    """Train to the end of the observed steps; call `begin` before and `end` after them."""
    material = _material(check, place.texts)

    def at(step: int) -> None:
        if step == place.first:
            begin()
        elif step == place.first + window:
            end()
            raise _Enough

    window = WINDOW if check.on_gpu else 2
    with after_each_step(at):
        record, _ = run_method(
            material,
            check.work / f"steps-{os.getpid()}-{place.texts}-{method}",
            method,
            epochs=place.epochs,
            batch_size=place.batch_size,
            max_length=512,
            precision="bf16",
            device=check.device_type,
            checkpoint_seconds=3600.0,
        )
    completed = (record.error or "").startswith(_Enough.__name__)
    check.expect(
        completed, f"{method}: {record.status} before the end of the observed steps: {record.error}"
    )


def synchronisations(check: Check) -> None:
    """Count the host-device synchronisations of ten steps by the causing line of tuneoff."""
    check.need_gpu()
    counts = {}
    for method in ("full", "lora"):
        with check.part(method):
            lines = _lines_that_wait(check, method)
            counts[method] = sum(lines.values()) / WINDOW
            found = {"per_step": counts[method], "by_line": dict(lines.most_common())}
            check.note(method, found)
            where = ", ".join(f"{line} ({n})" for line, n in lines.most_common(3))
            check.expect(not lines, f"{method}: {counts[method]:g} per step: {where}")
    each = ", ".join(f"{method} {count:g}" for method, count in counts.items())
    check.summary = f"synchronisations per step: {each}"


def _lines_that_wait(check: Check, method: str) -> Counter[str]:
    lines: Counter[str] = Counter()
    own = warnings.showwarning

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            lines[_line()] += 1

    def begin() -> None:
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")

    def end() -> None:
        torch.cuda.set_sync_debug_mode("default")
        warnings.showwarning = own

    with warnings.catch_warnings():
        _watched(check, PLACES["snli"], method, begin, end)
    return lines


def _line() -> str:
    """Return the innermost line of the engine on the stack, and the file that it called."""
    stack = [f for f in traceback.extract_stack() if Path(f.filename) != Path(__file__)]
    called = [f for f in stack if "warnings" not in f.filename]
    for at in reversed(range(len(called))):
        file = Path(called[at].filename)
        if file.is_relative_to(PACKAGE):
            inner = called[-1]
            beyond = "" if at == len(called) - 1 else f" in {Path(inner.filename).name}"
            return f"{file.relative_to(PACKAGE)}:{called[at].lineno}{beyond}"
    return "outside of tuneoff"


def profile(check: Check, texts: str) -> None:
    """Record kernels and launches per step of `full`, and the GPU's utilisation."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    place = (PLACES if check.on_gpu else SMALL)[texts]
    # The profiler slows the host down, so the time is measured in another run without it.
    clock: list[float] = []

    def read() -> None:
        if check.on_gpu:
            torch.cuda.synchronize()
        clock.append(time.perf_counter())

    _watched(check, place, "full", read, read)
    window = WINDOW if check.on_gpu else 2
    step = (clock[1] - clock[0]) / window
    check.note("step_seconds", step)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * check.on_gpu
    profiler = profiled(activities=activities)

    def begin() -> None:
        if check.on_gpu:
            torch.cuda.synchronize()
        profiler.start()

    def end() -> None:
        if check.on_gpu:
            torch.cuda.synchronize()
        profiler.stop()

    _watched(check, place, "full", begin, end)
    if check.on_gpu:
        _on_gpu(check, profiler.events(), step)
    else:
        calls = Counter(event.name for event in profiler.events())
        check.note("operations_per_step", sum(calls.values()) / window)
        check.summary = f"{sum(calls.values()) / window:.0f} operations per step on the CPU"


def _on_gpu(check: Check, events: Any, step: float) -> None:
    """Record the events of the observed steps, per step."""
    from torch.autograd import DeviceType

    # Ranges that PyTorch marks, such as an optimizer's step, overlap the kernels inside them.
    on_device = [e for e in events if e.device_type == DeviceType.CUDA]
    kernels = [e for e in on_device if not getattr(e, "is_user_annotation", False)]
    spans = sorted((e.time_range.start, e.time_range.end) for e in kernels)
    busy, covered = 0.0, float("-inf")
    for start, end in spans:
        busy += max(0.0, end - max(start, covered))
        covered = max(covered, end)
    span = covered - spans[0][0]
    seconds, calls = Counter[str](), Counter[str]()
    for event in kernels:
        seconds[event.name] += event.time_range.end - event.time_range.start
        calls[event.name] += 1
    launches = Counter(e.name for e in events if "Launch" in e.name and e.name.startswith("cu"))
    total = sum(seconds.values())
    found = {
        "kernels_per_step": len(kernels) / WINDOW,
        "launches_per_step": {name: count / WINDOW for name, count in launches.items()},
        "busy_seconds_per_step": busy / WINDOW / 1e6,
        "busy_share": busy / WINDOW / 1e6 / step,
        "busy_share_while_profiled": busy / span,
        "top_kernels": [
            {
                "name": name[:160],
                "calls_per_step": calls[name] / WINDOW,
                "seconds_per_step": spent / WINDOW / 1e6,
                "share": spent / total,
            }
            for name, spent in seconds.most_common(TOP)
        ],
    }
    for key, value in found.items():
        check.note(key, value)
    check.summary = (
        f"{step * 1e3:.2f} ms per step, {found['kernels_per_step']:.0f} kernels by"
        f" {sum(launches.values()) / WINDOW:.0f} launches, busy {found['busy_share']:.0%}"
    )
