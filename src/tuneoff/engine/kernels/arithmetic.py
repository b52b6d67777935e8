"""How a CUDA device multiplies and adds: TF32 for what stays in float32, and in which order.

Both are settings of PyTorch for the whole process, so they are in force for one run and put back
after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable without which PyTorch refuses matrix products in deterministic mode."""


def has_tf32(device: torch.device) -> bool:
    """Whether `device` has tensor cores for TF32: 8 bits of exponent, 10 of mantissa."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def arithmetic(device: torch.device, *, tf32: bool, deterministic: bool) -> Iterator[None]:
    """Compute on a CUDA `device` as the settings say; nothing changes for other devices.

    Args:
        device: The device of the run.
        tf32: Whether products of float32 matrices round their inputs to TF32, where the device can.
        deterministic: Whether operations use algorithms that give the same bits each time. An
            operation without one raises a `RuntimeError` of PyTorch.
    """
    if device.type != "cuda":
        yield
        return
    precision = torch.get_float32_matmul_precision()
    mode = torch.get_deterministic_debug_mode()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if tf32 and has_tf32(device) else "highest")
    if deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")  # read when cuBLAS is loaded, later than this
        torch.use_deterministic_algorithms(True)
        # It would write NaN to new memory: a check for bugs, at the price of a pass over it.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
