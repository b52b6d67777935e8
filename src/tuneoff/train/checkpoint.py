"""The best weights so far, on disk, so that keeping them costs no memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tuneoff.record import QUALITY_METRICS


class BestCheckpoint:
    """Keeps the weights of the epoch with the best validation score; of equals the first."""

    def __init__(self, folder: Path, metric: str) -> None:
        self.file = folder / "best.safetensors"
        self.epoch: int | None = None
        self.score: float | None = None
        self._sign = 1 if QUALITY_METRICS[metric].higher_is_better else -1

    def offer(self, epoch: int, score: float, masters: Mapping[str, Tensor]) -> bool:
        """Keep `masters` if `score` is better than all before; says whether it was."""
        if self.score is not None and self._sign * score <= self._sign * self.score:
            return False
        self.epoch, self.score = epoch, score
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".tmp")
        save_file({name: t.detach().contiguous() for name, t in masters.items()}, temporary)
        os.replace(temporary, self.file)
        return True

    @torch.no_grad()
    def restore(self, masters: Mapping[str, Tensor]) -> None:
        """Put the kept weights back into `masters`, in place."""
        for name, value in load_file(self.file).items():
            masters[name].copy_(value)

    def remove(self) -> None:
        """Free the disk."""
        self.file.unlink(missing_ok=True)
