"""How many runs this machine takes at the same time: `--workers auto`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tuneoff.config import StudySpec

MEMORY_SHARE = 0.75
"""Part of the machine's memory that runs may take together."""
PROCESS_BYTES = 10**9
"""A run's process: the engine, a batch's activations, the rows."""
COPIES = 4
"""Of a model in float32 while all of it trains: weights, gradients, and AdamW's two moments."""

_CGROUP = Path("/sys/fs/cgroup")


def workers_for(study: StudySpec, gpus: Sequence[str], *, device: str, model_bytes: int = 0) -> int:
    """Runs at the same time: one per GPU; on a CPU what `fastest_split` says, if memory allows.

    `device` is the study's until the engine has chosen one ("auto"), then the chosen one. It
    depends on the machine and the study alone, not on what is busy or finished, so that a study
    that is resumed has the same number.
    """
    jobs = max(1, len(study.methods) * len(study.seeds))
    if device == "mps" or (device == "auto" and sys.platform == "darwin"):
        return 1  # one GPU, and it shares the memory
    if device != "cpu" and gpus:
        return min(len(gpus), jobs)
    if device == "cuda":  # which devices there are is not known: they are not shared
        return 1
    cores = available_cores() // (study.train.threads or 1)
    most = int(MEMORY_SHARE * memory_bytes() / (COPIES * model_bytes + PROCESS_BYTES))
    return fastest_split(max(1, cores), len(study.methods), len(study.seeds), most)


def fastest_split(cores: int, methods: int, seeds: int, most: int) -> int:
    """The number of runs at once, at most `most`, with which a study on a CPU is done first.

    Each run has `cores // number` threads. With MiniLM on two cores, two threads were 1.41 times
    as fast as one, and two runs side by side slowed each other by 8 % (docs/engine.md): the square
    root of the threads fits the former and is assumed beyond. A study cannot end before its longest
    run; the methods' times are taken to rise evenly, the longest being twice the mean.
    """
    jobs = max(1, methods * seeds)
    longest = 2 / ((methods + 1) * max(1, seeds)) if methods else 1.0

    def time(runs: int) -> float:
        return max(longest, 1 / runs) / math.sqrt(max(1, cores // runs))

    return min(range(1, max(1, min(cores, jobs, most)) + 1), key=lambda runs: (time(runs), runs))


def available_cores() -> int:
    """Cores that this process may use, a container's quota included."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return count


def memory_bytes() -> int:
    """Memory of this machine, or of its container."""
    import psutil

    total: int = psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        total = min(total, int((_CGROUP / "memory.max").read_text()))
    return total


def model_bytes(folder: Path) -> int:
    """Size of a model's weights on disk; their largest format where there are several."""
    sizes = [
        sum(file.stat().st_size for file in folder.glob(pattern))
        for pattern in ("*.safetensors", "*.bin")
    ]
    return max(sizes)
