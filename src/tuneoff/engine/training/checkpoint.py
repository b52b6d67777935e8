"""Checkpoints of a running training: the best weights so far, and states to resume from.

    checkpoint/best-<16 hex>.safetensors    weights of the best epoch, on disk so that they take no
                                            memory; the name is a hash of the content
    checkpoint/step-00000120/               state on which the next step depends
        tensors.safetensors, state.json

A file is written to a temporary name, synchronised to disk and then renamed, so that it is complete
or absent, even after a power failure.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.store import sync_folder

KEPT = 2
"""Number of checkpoints to keep. If the last one is damaged, the one before it is used."""


class BestCheckpoint:
    """Weights of the epoch with the best validation score, the first one if scores are equal."""

    def __init__(self, folder: Path, metric: str) -> None:
        self._folder = folder
        self.kept: str | None = None
        """Name of the file with the weights; None before the first epoch has ended."""
        self.epoch: int | None = None
        self.score: float | None = None
        self._sign = 1 if QUALITY_METRICS[metric].higher_is_better else -1

    def offer(self, epoch: int, score: float, masters: Mapping[str, Tensor]) -> bool:
        """Save `masters` if `score` is better than all before; return whether it is."""
        if self.score is not None and self._sign * score <= self._sign * self.score:
            return False
        self.epoch, self.score = epoch, score
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / "best.new"
        _save({name: t.detach().contiguous() for name, t in masters.items()}, new)
        self.kept = _named(new)
        os.replace(new, self._folder / self.kept)
        sync_folder(self._folder)
        for old in self._files():
            if old.name != self.kept:
                old.unlink()
        return True

    def go_on(self, epoch: int | None, score: float | None, kept: str | None) -> bool:
        """Restore the best epoch of a checkpoint; return False if its weights are lost or damaged.

        If only the weights of a later epoch are left, they are used: this epoch is repeated, and
        then replaces them.
        """
        intact = [file.name for file in self._files() if file.name == _named(file)]
        if epoch is not None and not intact:
            return False
        self.epoch, self.score = epoch, score
        self.kept = kept if kept in intact or not intact else intact[0]
        return True

    def is_below(self, floors: Sequence[float], epoch: int) -> bool:
        """Return whether the best score is worse than the threshold of `epoch`, counted from 1."""
        if self.score is None or epoch > len(floors):
            return False
        return self._sign * self.score < self._sign * floors[epoch - 1]

    @torch.no_grad()
    def restore(self, masters: Mapping[str, Tensor]) -> None:
        """Copy the best weights to `masters`, in place."""
        assert self.kept is not None
        for name, value in load_file(self._folder / self.kept).items():
            masters[name].copy_(value)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("best-*.safetensors"))


@dataclass(frozen=True)
class Point:
    """State on which the next step of a training depends."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """Plain values for JSON; integers may be of any size."""


class Checkpoints:
    """Checkpoints of one run, from which it can resume with the same result bit for bit."""

    def __init__(self, folder: Path, identity: str, every: float) -> None:
        """Open the folder of the checkpoints.

        Args:
            folder: Folder of the checkpoints.
            identity: Identifies the run; checkpoints of other runs in `folder` are ignored.
            every: Time between two checkpoints, in seconds.
        """
        self._folder = folder
        self._identity = identity
        self._every = every
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time for the next checkpoint."""
        return time.monotonic() - self._saved >= self._every

    def save(self, step: int, point: Point) -> None:
        """Write a checkpoint, then remove all but the last `KEPT`."""
        name = f"step-{step:08}"
        temporary = self._folder / f".{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        file = temporary / "tensors.safetensors"
        _save(point.tensors, file)
        body = json.dumps({"run": self._identity, "tensors": _sha256(file), "state": point.state})
        digest = hashlib.sha256(body.encode()).hexdigest()
        with (temporary / "state.json").open("w", encoding="utf-8") as state:
            state.write(f"{digest}\n{body}")
            state.flush()
            os.fsync(state.fileno())
        sync_folder(temporary)
        shutil.rmtree(self._folder / name, ignore_errors=True)
        os.replace(temporary, self._folder / name)
        sync_folder(self._folder)
        for old in self._points()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        self._saved = time.monotonic()

    def latest(self) -> Point | None:
        """Return the last undamaged checkpoint, or None."""
        for folder in self._points():
            if (point := self._read(folder)) is not None:
                return point
        return None

    def _read(self, folder: Path) -> Point | None:
        try:
            digest, _, body = (folder / "state.json").read_text(encoding="utf-8").partition("\n")
            if hashlib.sha256(body.encode()).hexdigest() != digest:
                return None
            content = json.loads(body)
            file = folder / "tensors.safetensors"
            if content["run"] != self._identity or _sha256(file) != content["tensors"]:
                return None
            return Point(load_file(file), content["state"])
        except (OSError, ValueError):
            return None

    def _points(self) -> list[Path]:
        """Return the folders of the checkpoints, the last one first."""
        return sorted(self._folder.glob("step-*"), reverse=True)


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    temporary = file.with_suffix(".tmp")
    save_file(dict(tensors), temporary)
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(temporary, file)
    sync_folder(file.parent)


def _named(file: Path) -> str:
    return f"best-{_sha256(file)[:16]}.safetensors"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
