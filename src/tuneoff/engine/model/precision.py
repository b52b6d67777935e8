"""Choice of the device and the precision of a run."""

from __future__ import annotations

import time
from typing import Literal

import torch

from tuneoff.exceptions import BadInput

Precision = Literal["bf16", "fp16", "fp32"]
DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


def choose_device(asked: str) -> torch.device:
    """Return the device named `asked`; "auto" prefers a CUDA GPU, then an Apple GPU, then the CPU.

    Raises:
        BadInput: The device is not available.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if asked != "auto":
        if not available.get(asked, False):
            names = ", ".join(
                repr(name) for name, is_available in available.items() if is_available
            )
            raise BadInput(
                f"the device {asked!r} is not available.", hint=f"Available devices: {names}."
            )
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device) -> Precision:
    """Return the precision named `asked`; "auto" is bf16 if the device supports it natively.

    Otherwise "auto" is fp16 on a CUDA GPU and fp32 elsewhere. On a CPU, bf16 must also be faster
    than fp32, which is measured in about 50 ms: with AMX, bf16 matrix products take a fifth of the
    time of fp32; on the same processor in a virtual machine that hides AMX, twice as long.

    Raises:
        BadInput: `asked` is bf16, but the CUDA GPU does not support it.
    """
    if asked in DTYPES:
        if asked == "bf16" and not has_bf16(device):
            name, (major, minor) = _card(device)
            raise BadInput(
                f"precision bf16: {name} has compute capability {major}.{minor}, but bf16 requires"
                " 8.0 or higher.",
                hint="Use precision fp16 or auto.",
            )
        return asked
    if device.type == "cuda":
        return "bf16" if has_bf16(device) else "fp16"
    native = device.type == "cpu" and _cpu_multiplies("bf16")
    return "bf16" if native and is_faster(torch.bfloat16, torch.float32) else "fp32"


def rounding(precision: Precision, tf32: bool | None) -> Precision:
    """Return the precision whose rounding explains differences of logits of two computations.

    Args:
        precision: Precision of the run.
        tf32: Whether float32 products used TF32, which has as many mantissa bits as fp16.
    """
    return "fp16" if precision == "fp32" and tf32 else precision


def has_bf16(device: torch.device) -> bool:
    """Return whether `device` supports bf16; CUDA GPUs do from compute capability 8.0."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def _card(device: torch.device) -> tuple[str, tuple[int, int]]:
    return torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)


def emulation_warning(precision: Precision, device: torch.device) -> str | None:
    """Return a warning if `device` is a CPU without instructions for `precision`, else None."""
    if device.type != "cpu" or _cpu_multiplies(precision) is not False:
        return None
    return (
        f"this processor has no {precision} instructions: PyTorch emulates them, which can take"
        " many times as long as fp32. Hint: use --precision fp32 or auto"
    )


def is_faster(one: torch.dtype, other: torch.dtype, repeats: int = 7) -> bool:
    """Return whether a linear layer (of BERT-base's width) is faster in `one` than in `other`.

    The fastest of `repeats` products on the CPU counts. The types alternate, so that other load of
    the machine affects both.
    """
    pairs = {
        dtype: (torch.ones(512, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype))
        for dtype in (one, other)
    }
    best = dict.fromkeys(pairs, float("inf"))
    for _ in range(repeats):
        for dtype, (rows, weight) in pairs.items():
            start = time.perf_counter()
            torch.nn.functional.linear(rows, weight)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[one] < best[other]


# Names of the instructions on Linux, for x86 and Arm processors.
_INSTRUCTIONS: dict[Precision, set[str]] = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "fphp", "asimdhp"},
}


def _cpu_multiplies(precision: Precision) -> bool | None:
    """Return whether the processor has instructions for `precision`; None if this is unknown."""
    if precision == "fp32":
        return True
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:  # only Linux has this file
        return None
    return bool(_INSTRUCTIONS[precision] & set(flags.split()))
