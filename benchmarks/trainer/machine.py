"""Description of the machine for the results of a benchmark."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine(precision: str) -> dict[str, Any]:
    """Return hardware, versions, and the rate of matrix products in `precision`."""
    import torch

    from tuneoff.engine.measure.compute import product_rate
    from tuneoff.engine.model.precision import DTYPES

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    names = ("torch", "transformers", "peft", "accelerate", "tuneoff")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": torch.cuda.get_device_name() if gpu else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "product_rate": product_rate(DTYPES[precision], device, seconds=3.0),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
