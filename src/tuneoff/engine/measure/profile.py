"""Profile of a few training steps by operator, for `tuneoff train --profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tuneoff.results.store import write_json

WARM_UP = 3
"""Number of steps before the first traced one. They fill caches and select kernels."""

STEPS = 5
"""Number of traced steps: enough for a mean, with a trace of a few MB."""

OPERATORS = 10
"""Number of operators in the summary, those that take most time."""


class Trace:
    """Traces `STEPS` steps after `WARM_UP` steps; fewer if the training is shorter.

    Writes `trace.json.gz`, for Perfetto or chrome://tracing, and `operators.json` to `folder`.
    Tracing slows the steps down, so the times of such a run cannot be compared.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder, self._device = folder, device
        self._profile: Any = None
        self._first = 0

    def step(self, done: int, total: int) -> None:
        """Start or end tracing after `done` of `total` steps, counted over all epochs."""
        if self._profile is None and self._first == 0 and done >= min(WARM_UP, total - 1):
            self._first = done
            activities = [ProfilerActivity.CPU]
            if self._device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=activities)
            self._profile.start()
        elif self._profile is not None and (done >= self._first + STEPS or done == total):
            self._profile.stop()
            self._write(done - self._first)
            self._profile = None

    def _write(self, steps: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "trace.json.gz"
        file.unlink(missing_ok=True)
        self._profile.export_chrome_trace(str(file))
        on_device = self._device.type == "cuda"
        key = "self_device_time_total" if on_device else "self_cpu_time_total"
        events = sorted(self._profile.key_averages(), key=lambda event: -getattr(event, key))
        total = sum(getattr(event, key) for event in events)
        content = {
            "steps": steps,
            "first_step": self._first + 1,
            "device": self._device.type,
            "seconds": total / 1e6,
            "operators": [
                {
                    "name": event.key,
                    "calls": event.count,
                    "seconds": getattr(event, key) / 1e6,
                    "share": getattr(event, key) / total if total else 0.0,
                }
                for event in events[:OPERATORS]
            ],
        }
        write_json(self._folder / "operators.json", content)
