"""Store of hidden states on disk: the output of frozen layers, which is the same in every epoch.

A store is a file with the concatenated states of all rows, and `<file>.json` in the same folder,
which is written last. Rows are read and not memory-mapped, because mapped pages would count as
memory of the run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuneoff.results.store import write_json


@dataclass(frozen=True)
class StateStore:
    """Hidden states of the rows of a split, of shape (tokens, width).

    If `pooled`, only the state of the first token of each row is stored.
    """

    file: Path
    dtype: torch.dtype
    width: int
    pooled: bool
    offsets: npt.NDArray[np.int64]
    """Index of the first state of each row, and the total number; of shape (rows + 1,)."""
    seconds: float
    """Time to compute the states, in seconds."""

    @property
    def bytes(self) -> int:
        """Size on disk in bytes."""
        return int(self.offsets[-1]) * self._stride

    @property
    def _stride(self) -> int:
        return self.width * self.dtype.itemsize

    def read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the states of `rows` in that order, of shape (states, width)."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        buffer = bytearray(int((ends - starts).sum()) * self._stride)
        view, at = memoryview(buffer), 0
        with self.file.open("rb", buffering=0) as file:
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                size = (end - start) * self._stride
                if os.preadv(file.fileno(), [view[at : at + size]], start * self._stride) != size:
                    raise OSError(f"{self.file} is truncated")
                at += size
        return torch.frombuffer(buffer, dtype=self.dtype).view(-1, self.width)

    @staticmethod
    def open(
        file: Path, offsets: npt.NDArray[np.int64], dtype: torch.dtype, width: int, pooled: bool
    ) -> StateStore | None:
        """Open the store in `file`; return None if it is missing or incomplete."""
        try:
            meta = json.loads(_meta(file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        store = StateStore(file, dtype, width, pooled, offsets, meta["seconds"])
        return store if file.is_file() and file.stat().st_size == store.bytes else None


class StateWriter:
    """Writes a new store, whose rows may come in any order; it exists after `finish`."""

    def __init__(
        self, file: Path, offsets: npt.NDArray[np.int64], dtype: torch.dtype, width: int
    ) -> None:
        self._file, self._offsets = file, offsets
        self._stride = width * dtype.itemsize
        # Two runs may write the same store at once: each has its own file, and the last one wins.
        self._temporary = file.with_name(f".{file.name}.{os.getpid()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.truncate(self._handle, int(offsets[-1]) * self._stride)

    def write(self, rows: npt.NDArray[np.int64], states: Tensor) -> None:
        """Write the states of `rows`, concatenated in the order of `rows`."""
        data = states.contiguous().view(torch.uint8).numpy().data.cast("B")
        at = 0
        for row in rows.tolist():
            start, end = int(self._offsets[row]), int(self._offsets[row + 1])
            size = (end - start) * self._stride
            os.pwrite(self._handle, data[at : at + size], start * self._stride)
            at += size

    def finish(self, seconds: float) -> None:
        """Complete the store; `seconds` is the time to compute its states."""
        os.close(self._handle)
        os.replace(self._temporary, self._file)
        write_json(_meta(self._file), {"seconds": seconds})

    def give_up(self) -> None:
        """Delete the incomplete store."""
        os.close(self._handle)
        self._temporary.unlink(missing_ok=True)


def _meta(file: Path) -> Path:
    return file.with_name(file.name + ".json")
