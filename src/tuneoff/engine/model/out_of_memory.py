"""Out-of-memory handling: retry a computation in smaller pieces.

All phases of a run use one of these: `retried` for computations that the caller knows how to shrink
(an optimizer step, a matrix product), and `PassSize` for forward passes at inference.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tuneoff.engine.data.batches import by_tokens

Rows = npt.NDArray[np.int64]
T = TypeVar("T")

# Parts of the messages of PyTorch's CPU allocator, CUDA and its libraries (cuBLAS, cuDNN, …).
_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "_status_alloc_failed",
)


def is_out_of_memory(problem: BaseException) -> bool:
    """Return whether an exception means that GPU or CPU memory ran out."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(problem).lower()
    return isinstance(problem, RuntimeError) and any(sign in text for sign in _SIGNS)


def release_memory() -> None:
    """Return freed memory to the system, so that the peak memory of each phase can be measured."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only in glibc
        if trim is not None:
            trim(0)


def retried(compute: Callable[[], T], shrink: Callable[[], bool]) -> T:
    """Return `compute()`; whenever memory runs out, call `shrink` and try again.

    Args:
        compute: Computation that may run out of memory. It must have no side effects if it does.
        shrink: Reduces the memory that `compute` needs; returns False if that is not possible.

    Raises:
        Exception: The exception of `compute`, if it is of another kind or `shrink` returned False.
    """
    while True:
        try:
            return compute()
        except (RuntimeError, MemoryError) as problem:  # OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(problem) or not shrink():
                raise
        # Outside of the handler, because the traceback refers to the tensors that fill the memory.
        release_memory()


@dataclass
class PassSize:
    """Tokens per forward pass at inference, halved whenever memory runs out.

    All evaluations of a run share one object, so that a size that failed is not tried again.

    Attributes:
        tokens: Current maximum number of tokens per forward pass.
        planned: Initial value of `tokens`.
    """

    tokens: int
    planned: int = field(init=False)

    def __post_init__(self) -> None:
        self.planned = self.tokens

    def over(
        self, lengths: npt.NDArray[np.int64], rows: Rows, compute: Callable[[Rows], T]
    ) -> Iterator[T]:
        """Yield `compute(batch)` for batches of `rows` of at most `tokens` tokens, or one row.

        Args:
            lengths: Number of tokens of each row of the split, of shape (all rows,).
            rows: Positions in the split, of shape (rows,).
            compute: Does one forward pass.
        """
        for piece in by_tokens(lengths, rows, self.tokens):
            yield from self._of(lengths, piece, compute)

    def _of(
        self, lengths: npt.NDArray[np.int64], rows: Rows, compute: Callable[[Rows], T]
    ) -> list[T]:
        """Return the results for `rows`, in more batches if memory runs out."""

        def passes() -> list[T]:
            return [compute(piece) for piece in by_tokens(lengths, rows, self.tokens)]

        def halve() -> bool:
            most = min(self.tokens, int(lengths[rows].sum()))
            if len(by_tokens(lengths, rows, most)) == len(rows):
                return False
            self.tokens = most // 2
            return True

        return retried(passes, halve)
