"""Description of the machine and the software of a run."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from tuneoff import __version__

_DRIVER_VERSION = Path("/sys/module/nvidia/version")


def environment(device: torch.device) -> dict[str, Any]:
    """Return machine, device and versions; costs can be compared only if all are equal."""
    return {
        "tuneoff": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "preload": os.environ.get("LD_PRELOAD") or "none",
        "memory_bytes": psutil.virtual_memory().total,
        **(_gpu(device) if device.type == "cuda" else {"device": device.type}),
        "torch": str(torch.__version__),  # with the build, which package metadata may lack
        **{
            name: _version(name)
            for name in (
                "transformers",
                "peft",
                "accelerate",
                "bitsandbytes",
                "scikit-learn",
            )
        },
    }


def _gpu(device: torch.device) -> dict[str, Any]:
    """Return the GPU or MIG instance of the run, its driver and the CUDA version."""
    return {
        "device": torch.cuda.get_device_name(device),
        "gpu_memory_bytes": torch.cuda.get_device_properties(device).total_memory,
        "driver": _driver_version(),
        "cuda": torch.version.cuda,
    }


def _driver_version() -> str | None:
    """Return the version of NVIDIA's driver from the kernel or nvidia-smi; None if unknown."""
    with suppress(OSError):
        return _DRIVER_VERSION.read_text().strip()
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return next(iter(result.stdout.split()), None)  # one line per GPU
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "unknown"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
