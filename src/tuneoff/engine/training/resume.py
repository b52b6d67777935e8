"""Save and restore everything on which the next step of a training depends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneoff.engine.measure.meter import TrainMeter
from tuneoff.engine.model.load import PreparedModel
from tuneoff.engine.training.checkpoint import BestCheckpoint, Checkpoints, Point
from tuneoff.engine.training.journal import Journal
from tuneoff.engine.training.loss_log import LossLog
from tuneoff.engine.training.optimizer import Optimizer


@dataclass(frozen=True)
class Position:
    """Progress of a training."""

    epoch: int = 1
    """Counted from 1."""
    step: int = 0
    """Number of optimizer steps done, over all epochs."""
    steps_in_epoch: int = 0
    without_gain: int = 0
    """Number of epochs since the best one."""
    micro_batch_tokens: int = 0
    """Maximum number of tokens of a forward pass, after any reduction for lack of memory."""

    def next_step(self, micro_batch_tokens: int) -> Position:
        """Return the position after the next step."""
        return replace(
            self,
            step=self.step + 1,
            steps_in_epoch=self.steps_in_epoch + 1,
            micro_batch_tokens=micro_batch_tokens,
        )

    def next_epoch(self, better: bool) -> Position:
        """Return the position at the start of the next epoch.

        `better` says whether the current epoch is the best so far.
        """
        gain = 0 if better else self.without_gain + 1
        return replace(self, epoch=self.epoch + 1, steps_in_epoch=0, without_gain=gain)


@dataclass(frozen=True)
class Resumable:
    """Parts of a training that have a state."""

    checkpoints: Checkpoints
    prepared: PreparedModel
    optimizer: Optimizer
    order: np.random.Generator
    meter: TrainMeter
    log: LossLog
    best: BestCheckpoint
    journal: Journal

    def save(self, at: Position, epoch_order: Mapping[str, Any]) -> None:
        """Write a checkpoint; `epoch_order` is the state of `order` at the start of the epoch."""
        moments, plain = self.optimizer.state()
        groups = {
            "master": self.prepared.masters,
            "adamw": moments,
            "hook": self.prepared.hook.state(),
            "log": self.log.state(),
            "random": _random_states(),
        }
        tensors = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group, group_tensors in groups.items()
            for name, tensor in group_tensors.items()
        }
        dropout = self.prepared.dropout
        state = {
            "position": asdict(at),
            "optimizer": plain,
            "order": _plain(epoch_order),
            "dropout": _plain(dropout.bit_generator.state) if dropout is not None else None,
            "meter": self.meter.state(),
            "best": {"epoch": self.best.epoch, "score": self.best.score, "kept": self.best.kept},
            "history": self.journal.size,
        }
        self.checkpoints.save(at.step, Point(_apart(tensors), state))

    @torch.no_grad()
    def go_on(self) -> Position | None:
        """Restore the last undamaged checkpoint and return its position, or None."""
        point = self.checkpoints.latest()
        if point is None or not self.best.go_on(**point.state["best"]):
            self.journal.cut(0)
            return None
        for name, value in _group(point.tensors, "master").items():
            self.prepared.masters[name].copy_(value)
        self.optimizer.restore(_group(point.tensors, "adamw"), point.state["optimizer"])
        self.prepared.hook.restore(_group(point.tensors, "hook"))
        device = next(iter(self.prepared.masters.values())).device
        self.log.restore(_group(point.tensors, "log"), device)
        _set_random_states(_group(point.tensors, "random"))
        self.order.bit_generator.state = _arrays(point.state["order"])
        if self.prepared.dropout is not None:
            self.prepared.dropout.bit_generator.state = _arrays(point.state["dropout"])
        self.meter.restore(point.state["meter"])
        self.journal.cut(point.state["history"])
        return Position(**point.state["position"])


def _group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "/"
    return {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory (two names of one weight), as safetensors requires."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        shared = tensor.data_ptr() in seen and tensor.numel() > 0
        seen.add(tensor.data_ptr())
        result[name] = tensor.clone() if shared else tensor
    return result


def _random_states() -> dict[str, Tensor]:
    """Return the states of PyTorch's random generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def _plain(state: Any) -> Any:
    """Return the state of a random generator as plain values for JSON."""
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return {"array": state.tolist()} if isinstance(state, np.ndarray) else state


def _arrays(plain: Any) -> Any:
    """Return the state from the result of `_plain`; arrays of NumPy's generators are uint64."""
    if not isinstance(plain, Mapping):
        return plain
    if plain.keys() == {"array"}:
        return np.array(plain["array"], np.uint64)
    return {key: _arrays(value) for key, value in plain.items()}
