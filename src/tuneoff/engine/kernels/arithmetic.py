"""Arithmetic of a CUDA device: TF32 for products of float32 matrices, deterministic algorithms.

Both are settings of PyTorch for the whole process, so they are set for one run and restored after
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable that PyTorch requires for matrix products in deterministic mode."""


def has_tf32(device: torch.device) -> bool:
    """Return whether `device` has tensor cores for TF32 (8 bits of exponent, 10 of mantissa)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def arithmetic(device: torch.device, *, tf32: bool, deterministic: bool) -> Iterator[None]:
    """Apply the arithmetic settings to a CUDA `device` within the context.

    Nothing changes for other devices.

    Args:
        device: The device of the run.
        tf32: Whether products of float32 matrices round their inputs to TF32, if the device
            supports it.
        deterministic: Whether all operations use algorithms whose results are the same bit for bit
            each time. PyTorch raises a `RuntimeError` for an operation without such an algorithm.
    """
    if device.type != "cuda":
        yield
        return
    precision = torch.get_float32_matmul_precision()
    mode = torch.get_deterministic_debug_mode()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if tf32 and has_tf32(device) else "highest")
    if deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")  # cuBLAS is loaded later and then reads it
        torch.use_deterministic_algorithms(True)
        # Filling new memory with NaN only helps to find bugs, and costs a pass over the memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
