"""Hidden states of the rows of a split, on disk: what a frozen encoder gives in every epoch.

A store is a file of the rows' states one after the other, and `<file>.json` beside it, written
last. Rows are read, not mapped: mapped pages would count as the run's memory.
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
    """States (tokens, width) of a split's rows; of each row's first token alone if `pooled`."""

    file: Path
    dtype: torch.dtype
    width: int
    pooled: bool
    offsets: npt.NDArray[np.int64]
    """(rows + 1,) first state of each row."""
    seconds: float
    """What computing them took."""

    @property
    def bytes(self) -> int:
        """On disk."""
        return int(self.offsets[-1]) * self._stride

    @property
    def _stride(self) -> int:
        return self.width * self.dtype.itemsize

    def read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """(states of these rows, width), in the order of `rows`."""
        begins, ends = self.offsets[rows], self.offsets[rows + 1]
        whole = bytearray(int((ends - begins).sum()) * self._stride)
        view, at = memoryview(whole), 0
        with self.file.open("rb", buffering=0) as file:
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                size = (end - begin) * self._stride
                if os.preadv(file.fileno(), [view[at : at + size]], begin * self._stride) != size:
                    raise OSError(f"{self.file} is shorter than it should be")
                at += size
        return torch.frombuffer(whole, dtype=self.dtype).view(-1, self.width)

    @staticmethod
    def open(
        file: Path, offsets: npt.NDArray[np.int64], dtype: torch.dtype, width: int, pooled: bool
    ) -> StateStore | None:
        """The store in `file`, or None where none was finished."""
        try:
            meta = json.loads(_meta(file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        found = StateStore(file, dtype, width, pooled, offsets, meta["seconds"])
        return found if file.is_file() and file.stat().st_size == found.bytes else None


class StateWriter:
    """Fills a new store, row by row in any order; `finish` makes it appear."""

    def __init__(
        self, file: Path, offsets: npt.NDArray[np.int64], dtype: torch.dtype, width: int
    ) -> None:
        self._file, self._offsets = file, offsets
        self._stride = width * dtype.itemsize
        # Two runs may fill the same store at once: each its own file, and the last one's stays.
        self._temporary = file.with_name(f".{file.name}.{os.getpid()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.truncate(self._handle, int(offsets[-1]) * self._stride)

    def write(self, rows: npt.NDArray[np.int64], states: Tensor) -> None:
        """`states`: those of `rows`, one row after the other."""
        data = states.contiguous().view(torch.uint8).numpy().data.cast("B")
        at = 0
        for row in rows.tolist():
            begin, end = int(self._offsets[row]), int(self._offsets[row + 1])
            size = (end - begin) * self._stride
            os.pwrite(self._handle, data[at : at + size], begin * self._stride)
            at += size

    def finish(self, seconds: float) -> None:
        """The store is whole; computing it took so long."""
        os.close(self._handle)
        os.replace(self._temporary, self._file)
        write_json(_meta(self._file), {"seconds": seconds})

    def give_up(self) -> None:
        """Leave nothing behind."""
        os.close(self._handle)
        self._temporary.unlink(missing_ok=True)


def _meta(file: Path) -> Path:
    return file.with_name(file.name + ".json")
