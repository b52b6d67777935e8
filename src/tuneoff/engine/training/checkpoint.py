"""What a training leaves on disk while it runs: the best weights so far, and points to go on from.

    checkpoint/best-<16 hex>.safetensors    the weights of the best epoch, so that keeping them
                                            costs no memory; the name is a hash of the content
    checkpoint/step-00000120/               all that the next step depends on
        tensors.safetensors, state.json

Whoever reads sees a file whole or not at all, also after the machine lost its power: writing goes
to a temporary name, is forced to disk, and then renamed.
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
"""Points that are kept: if the last one is torn, the one before it serves."""


class BestCheckpoint:
    """Keeps the weights of the epoch with the best validation score; of equals the first."""

    def __init__(self, folder: Path, metric: str) -> None:
        self._folder = folder
        self.kept: str | None = None
        """Name of the file with the weights."""
        self.epoch: int | None = None
        self.score: float | None = None
        self._sign = 1 if QUALITY_METRICS[metric].higher_is_better else -1

    def offer(self, epoch: int, score: float, masters: Mapping[str, Tensor]) -> bool:
        """Keep `masters` if `score` is better than all before; says whether it was."""
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
        """Take up what a point knows of the best epoch; false if its weights are lost or altered.

        Where only those of a later epoch are left, they do: that epoch comes again, and takes
        their place.
        """
        whole = [file.name for file in self._files() if file.name == _named(file)]
        if epoch is not None and not whole:
            return False
        self.epoch, self.score = epoch, score
        self.kept = kept if kept in whole or not whole else whole[0]
        return True

    def is_below(self, floors: Sequence[float], epoch: int) -> bool:
        """Whether the best score so far is worse than `floors` has it for `epoch`, from 1."""
        if self.score is None or epoch > len(floors):
            return False
        return self._sign * self.score < self._sign * floors[epoch - 1]

    @torch.no_grad()
    def restore(self, masters: Mapping[str, Tensor]) -> None:
        """Put the kept weights back into `masters`, in place."""
        assert self.kept is not None
        for name, value in load_file(self._folder / self.kept).items():
            masters[name].copy_(value)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("best-*.safetensors"))


@dataclass(frozen=True)
class Point:
    """All that the next step of a training depends on."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """As JSON holds it; whole numbers of any size."""


class Checkpoints:
    """The points of one run from which it goes on after it died, bit for bit."""

    def __init__(self, folder: Path, identity: str, every: float) -> None:
        """`identity` is the run's: points of another run in the same folder are none.

        `every`: seconds between two points.
        """
        self._folder = folder
        self._identity = identity
        self._every = every
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether the last point lies long enough back."""
        return time.monotonic() - self._saved >= self._every

    def save(self, step: int, point: Point) -> None:
        """Write `point`, then remove all but the last `KEPT`."""
        name = f"step-{step:08}"
        temporary = self._folder / f".{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        file = temporary / "tensors.safetensors"
        _save(point.tensors, file)
        body = json.dumps({"run": self._identity, "tensors": _sha256(file), "state": point.state})
        check = hashlib.sha256(body.encode()).hexdigest()
        with (temporary / "state.json").open("w", encoding="utf-8") as state:
            state.write(f"{check}\n{body}")
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
        """The last point that is whole; torn and altered ones are passed over."""
        for folder in self._points():
            if (point := self._read(folder)) is not None:
                return point
        return None

    def _read(self, folder: Path) -> Point | None:
        try:
            check, _, body = (folder / "state.json").read_text(encoding="utf-8").partition("\n")
            if hashlib.sha256(body.encode()).hexdigest() != check:
                return None
            content = json.loads(body)
            file = folder / "tensors.safetensors"
            if content["run"] != self._identity or _sha256(file) != content["tensors"]:
                return None
            return Point(load_file(file), content["state"])
        except (OSError, ValueError):
            return None

    def _points(self) -> list[Path]:
        """The last one first."""
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
