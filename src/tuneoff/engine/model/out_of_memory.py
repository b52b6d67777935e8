"""Running out of memory, and computing the same in smaller pieces when it happens.

One mechanism for all phases of a run: `retried` for what a caller can make smaller in its own way
(an optimizer step, a matrix product), `PassSize` for forward passes where nothing is trained.
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

# What PyTorch's CPU allocator, CUDA and its libraries (cuBLAS, cuDNN, cuSPARSE, …) say.
_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "_status_alloc_failed",
)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether `problem` says that memory ran out, on a GPU or beside it."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(problem).lower()
    return isinstance(problem, RuntimeError) and any(sign in text for sign in _SIGNS)


def release_memory() -> None:
    """Hand freed memory back, so that what a phase needs is not hidden by what came before it."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)


def retried(compute: Callable[[], T], shrink: Callable[[], bool]) -> T:
    """Return `compute()`, called again whenever memory ran out and `shrink` made it need less.

    Args:
        compute: What may run out of memory. It leaves nothing behind when it does.
        shrink: Makes `compute` need less; returns False if that is not possible.

    Raises:
        Exception: The error of `compute`, if it is another one or `shrink` returned False.
    """
    while True:
        try:
            return compute()
        except (RuntimeError, MemoryError) as problem:  # torch.OutOfMemoryError is the former
            if not is_out_of_memory(problem) or not shrink():
                raise
        # Outside of the handler, whose traceback holds what filled the memory.
        release_memory()


@dataclass
class PassSize:
    """Tokens per forward pass where nothing is trained: halved whenever memory runs out.

    One object serves all evaluations of a run, so that none repeats what did not fit before.
    """

    tokens: int
    planned: int = field(init=False)

    def __post_init__(self) -> None:
        self.planned = self.tokens

    def over(
        self, lengths: npt.NDArray[np.int64], rows: Rows, compute: Callable[[Rows], T]
    ) -> Iterator[T]:
        """Yield `compute(piece)` for pieces of `rows` with at most so many tokens, or one row.

        Args:
            lengths: (all rows,) tokens of each row of the split.
            rows: Positions in the split.
            compute: One forward pass.
        """
        for piece in by_tokens(lengths, rows, self.tokens):
            yield from self._of(lengths, piece, compute)

    def _of(
        self, lengths: npt.NDArray[np.int64], rows: Rows, compute: Callable[[Rows], T]
    ) -> list[T]:
        """The results for `rows`, in more pieces if memory runs out."""

        def passes() -> list[T]:
            return [compute(piece) for piece in by_tokens(lengths, rows, self.tokens)]

        def halve() -> bool:
            most = min(self.tokens, int(lengths[rows].sum()))
            if len(by_tokens(lengths, rows, most)) == len(rows):
                return False
            self.tokens = most // 2
            return True

        return retried(passes, halve)
