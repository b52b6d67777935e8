"""Number of concurrent runs on this machine, for `--workers auto`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tuneoff.config import StudySpec

MEMORY_SHARE = 0.75
"""Fraction of the machine's memory for all concurrent runs."""
PROCESS_BYTES = 10**9
"""Memory of a run without the model: libraries, activations of a batch, and rows."""
COPIES = 4
"""Copies of a fully trained float32 model: weights, gradients, and two moments of AdamW."""

_CGROUP = Path("/sys/fs/cgroup")


def workers_for(study: StudySpec, gpus: Sequence[str], *, device: str, model_bytes: int = 0) -> int:
    """Return the number of concurrent runs: one per GPU, or on a CPU that of `fastest_split`.

    The number depends only on the machine and the study, so it is the same if a study is resumed.

    Args:
        study: Specification of the study.
        gpus: Visible GPUs.
        device: Device of the study: "auto" until the engine has chosen one.
        model_bytes: Size of the weights, which limits the number of runs on a CPU.
    """
    jobs = max(1, len(study.methods) * len(study.seeds))
    if device == "mps" or (device == "auto" and sys.platform == "darwin"):
        return 1  # one GPU, which shares the memory of the CPU
    if device != "cpu" and gpus:
        return min(len(gpus), jobs)
    if device == "cuda":  # the GPUs are unknown and must not be shared
        return 1
    cores = available_cores() // (study.train.threads or 1)
    most = int(MEMORY_SHARE * memory_bytes() / (COPIES * model_bytes + PROCESS_BYTES))
    return fastest_split(max(1, cores), len(study.methods), len(study.seeds), most)


def fastest_split(cores: int, methods: int, seeds: int, most: int) -> int:
    """Return the number of concurrent runs, at most `most`, that is fastest for a study on a CPU.

    Each run has `cores // number` threads. With MiniLM on two cores, two threads were 1.41 times
    as fast as one, and two concurrent runs were each 8 % slower (docs/engine.md). The square root
    of the number of threads fits the former, and is assumed for more threads. A study takes at
    least as long as its longest run; the times of the methods are assumed to be evenly spaced, with
    a maximum of twice the mean.
    """
    jobs = max(1, methods * seeds)
    longest = 2 / ((methods + 1) * max(1, seeds)) if methods else 1.0

    def time(runs: int) -> float:
        return max(longest, 1 / runs) / math.sqrt(max(1, cores // runs))

    return min(range(1, max(1, min(cores, jobs, most)) + 1), key=lambda runs: (time(runs), runs))


def available_cores() -> int:
    """Return the number of cores that this process may use, which a container may limit."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def memory_bytes() -> int:
    """Return the memory of this machine or its container, in bytes."""
    import psutil

    total: int = psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        total = min(total, int((_CGROUP / "memory.max").read_text()))
    return total


def model_bytes(folder: Path) -> int:
    """Return the size of a model's weights in bytes, in the largest format if it has several."""
    sizes = [
        sum(file.stat().st_size for file in folder.glob(pattern))
        for pattern in ("*.safetensors", "*.bin")
    ]
    return max(sizes)
