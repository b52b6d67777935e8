"""The type that a run computes in."""

from __future__ import annotations

from typing import Literal

import torch

from tuneoff.errors import BadInput

Precision = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


def choose_device(asked: str) -> torch.device:
    """The device for `asked`; "auto" takes a CUDA GPU, then an Apple one, then the CPU.

    Raises `BadInput` for a device that this machine does not have.
    """
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if asked != "auto":
        if not there.get(asked, False):
            has = ", ".join(repr(name) for name, here in there.items() if here)
            raise BadInput(f"there is no device {asked!r} here.", mend=f"This machine has: {has}.")
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device) -> Precision:
    """The precision for `asked`; "auto" is bf16 where the device computes in it natively."""
    if asked in DTYPES:
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_multiplies_bf16() else "fp32"


def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has bf16 products; PyTorch would emulate them several times slower."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))
