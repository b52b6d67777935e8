"""The type that a run computes in."""

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
            raise BadInput(f"there is no device {asked!r} here.", hint=f"This machine has: {has}.")
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(asked: str, device: torch.device) -> Precision:
    """The precision for `asked`; "auto" is bf16 where the device computes in it natively.

    On a CPU it must be faster, too, which is measured in some 50 ms: with AMX products in bf16 take
    a fifth of the time of those in fp32, and on the same processor in a virtual machine that hides
    AMX twice as long. Raises `BadInput` for bf16 on a CUDA GPU without it.
    """
    if asked in DTYPES:
        if asked == "bf16" and not has_bf16(device):
            name, (major, minor) = _card(device)
            raise BadInput(
                f"precision bf16: {name} has compute capability {major}.{minor}, and bf16 needs 8.0"
                " or higher.",
                hint="Use precision fp16 or auto.",
            )
        return asked
    if device.type == "cuda":
        return "bf16" if has_bf16(device) else "fp16"
    native = device.type == "cpu" and _cpu_multiplies("bf16")
    return "bf16" if native and is_faster(torch.bfloat16, torch.float32) else "fp32"


def rounding(precision: Precision, tf32: bool | None) -> Precision:
    """The precision whose rounding explains differences of logits between two computations.

    TF32, which `tf32` says was used for float32, has as many bits of mantissa as fp16.
    """
    return "fp16" if precision == "fp32" and tf32 else precision


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes in bf16 at all: every CUDA GPU from capability 8.0 on does."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def _card(device: torch.device) -> tuple[str, tuple[int, int]]:
    return torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)


def emulation_warning(precision: Precision, device: torch.device) -> str | None:
    """A warning if `device` is a CPU without instructions for products in `precision`."""
    if device.type != "cpu" or _cpu_multiplies(precision) is not False:
        return None
    return (
        f"this processor has no {precision} instructions: PyTorch emulates them, which can take"
        " many times as long as fp32. Hint: use --precision fp32 or auto"
    )


def is_faster(one: torch.dtype, other: torch.dtype, repeats: int = 7) -> bool:
    """Whether a linear layer of BERT-base's width takes this CPU less time in `one` than `other`.

    By the best of `repeats` products each, taken in turns, so that a busy moment meets both.
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


# As Linux names them, on x86 and Arm processors.
_INSTRUCTIONS: dict[Precision, set[str]] = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "fphp", "asimdhp"},
}


def _cpu_multiplies(precision: Precision) -> bool | None:
    """Whether the processor has instructions for products in `precision`; None: unknown."""
    if precision == "fp32":
        return True
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:  # Linux alone has this file
        return None
    return bool(_INSTRUCTIONS[precision] & set(flags.split()))
