"""Description of the machine: card, driver, versions, signature of the attention kernel."""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from check import Check

PACKAGES = (
    *("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "triton"),
    *("bitsandbytes", "datasets", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn"),
    *("pydantic", "typer", "rich", "jinja2", "plotly", "filelock", "psutil", "nvidia-ml-py"),
)
QUERY = (
    "name,uuid,memory.total,driver_version,power.limit,"
    "clocks.max.sm,clocks.max.mem,mig.mode.current"
)


def versions(check: Check) -> None:
    """Record versions, `nvidia-smi`, the device's properties and `signature(varlen_attn)`."""
    import torch

    found = {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}
    check.note("versions", found)
    check.note("platform", platform.platform())
    check.note("cores", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None)
    check.note("cuda", torch.version.cuda)
    for module in ("tuneoff", "pynvml"):
        check.note(f"{module}_is_importable", find_spec(module) is not None)
    with check.part("signature of varlen_attn"):
        from torch.nn.attention import varlen

        check.note("varlen_attn", str(inspect.signature(varlen.varlen_attn)))
        check.note("varlen_doc", inspect.getdoc(varlen.varlen_attn))
    if check.on_gpu:
        _card(check)
    card = check.findings.get("card", "no card")
    check.summary = f"{card}, torch {found['torch']}, transformers {found['transformers']}"


def _card(check: Check) -> None:
    import torch

    about = torch.cuda.get_device_properties(0)
    check.note("card", about.name)
    check.note("memory_bytes", about.total_memory)
    check.note("capability", list(torch.cuda.get_device_capability(0)))
    check.note("multiprocessors", about.multi_processor_count)
    check.note("cudnn", torch.backends.cudnn.version())
    with check.part("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        values = [value.strip() for value in result.stdout.splitlines()[0].split(",")]
        facts = dict(zip(QUERY.split(","), values, strict=False))
        check.note("nvidia_smi", facts)
        check.note("driver", facts["driver_version"])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
