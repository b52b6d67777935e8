"""AdamW over the weights that train, with float32 masters where the model computes in less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from tuneoff.errors import Diverged
from tuneoff.methods.base import Pace
from tuneoff.spec import TrainSpec
from tuneoff.train.seen_rows import SeenRows


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019), clipping by the global norm, warm-up and decay.

    `masters` holds, by name, the float32 value of every weight that trains: what AdamW changes and
    what is saved. The model computes with its own copy in its own type, renewed after each step.
    Biases and norms have no weight decay, as in Transformers' Trainer. `paces` says, by name, which
    weights train at another rate than the run's, decay otherwise, or begin to train later; until
    they do, no gradient of theirs is computed. Of the matrix named in `seen` only those rows are
    visited that can change; the others decay when `settle` is called.
    """

    def __init__(
        self,
        model: nn.Module,
        masters: Mapping[str, Tensor],
        train: TrainSpec,
        learning_rate: float,
        steps: int,
        device: torch.device,
        paces: Mapping[str, Pace] | None = None,
        seen: tuple[str, SeenRows] | None = None,
    ) -> None:
        paces = paces or {}
        weights = dict(model.named_parameters())
        self._seen = seen[1] if seen else None
        if seen:
            masters = {**masters, seen[0]: seen[1].part}
            weights[seen[0]] = seen[1].part
        pairs = [(weights[name], master) for name, master in masters.items()]
        self._lowered = [(w, m) for w, m in pairs if w.dtype != m.dtype]
        self._same: list[Tensor] = [w for w, m in pairs if w.dtype == m.dtype]
        self._trained = [m for _, m in self._lowered] + self._same
        self._names = {id(master): name for name, master in masters.items()}
        self._waiting = [
            (math.ceil(paces[name].start * steps), weights[name])
            for name in masters
            if name in paces and paces[name].start > 0
        ]
        for _, weight in self._waiting:
            weight.requires_grad_(False)
        self._adamw = torch.optim.AdamW(
            _groups(masters, paces, learning_rate, train.weight_decay),
            lr=learning_rate,
            betas=(train.adam_beta1, train.adam_beta2),
            eps=train.adam_epsilon,
            fused=device.type in ("cpu", "cuda"),
        )
        self._rate = learning_rate
        self._done = 0
        self._schedule = LambdaLR(self._adamw, lambda step: _factor(step, steps, train))
        half = any(w.dtype == torch.float16 for w, _ in self._lowered)
        self._scaler = GradScaler(device.type, enabled=half)
        self._max_norm = train.max_grad_norm or math.inf
        self._device = device
        self._first_piece = True

    @property
    def learning_rate(self) -> float:
        """Of the next step, for a weight of the run's own pace."""
        return self._rate * self._schedule.lr_lambdas[0](self._done)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to that of the step."""
        torch.autograd.backward(self._scaler.scale(loss))
        for weight, master in self._lowered:
            if weight.grad is None:
                if self._first_piece and master.grad is not None:
                    master.grad.zero_()
            elif master.grad is None:
                master.grad = weight.grad.float()
            elif self._first_piece:  # the buffer is kept: new memory costs a page fault per 4 KB
                master.grad.copy_(weight.grad)
            else:
                master.grad.add_(weight.grad)
            weight.grad = None
        self._first_piece = False

    def forget(self) -> None:
        """Drop what was gathered of a step's gradient."""
        for weight, master in self._lowered:
            weight.grad = None
            if master.grad is not None:
                master.grad.zero_()
        self._forget_same()

    def step(self) -> None:
        """Change the masters; `Diverged` if the gradient is not finite (checked on a CPU).

        Their gradients stand until `renew`, which is to follow.

        On an accelerator the check would stop the device in each step; there the loop looks at the
        losses whenever it logs them.
        """
        self._scaler.unscale_(self._adamw)
        norm = nn.utils.clip_grad_norm_(self._trained, self._max_norm, foreach=True)
        if self._device.type == "cpu" and not self._scaler.is_enabled() and not norm.isfinite():
            raise Diverged(f"the gradient became {norm.item()}")
        self._scaler.step(self._adamw)
        self._scaler.update()
        if self._seen is not None and self._seen.part.grad is not None:
            group = next(g for g in self._adamw.param_groups if _holds(g, self._seen.part))
            self._seen.decay *= 1 - group["lr"] * group["weight_decay"]
        self._schedule.step()
        self._done += 1
        self._begin_late_weights()

    def _begin_late_weights(self) -> None:
        for first, weight in self._waiting:
            weight.requires_grad_(self._done >= first)
        self._waiting = [pair for pair in self._waiting if pair[0] > self._done]

    @torch.no_grad()
    def renew(self) -> None:
        """Copy the masters into the model, and forget the step's gradient."""
        self._forget_same()
        if self._lowered:
            weights, masters = zip(*self._lowered, strict=True)
            torch._foreach_copy_(list(weights), list(masters))
        if self._seen is not None:
            self._seen.renew()

    def settle(self) -> None:
        """Bring the masters and the model up to date where steps have left rows behind."""
        if self._seen is not None:
            self._seen.settle()

    def reload(self) -> None:
        """Go on from masters that were changed from outside."""
        if self._seen is not None:
            self._seen.reload()
        self.renew()

    def _forget_same(self) -> None:
        for weight in self._same:
            weight.grad = None
        if self._seen is not None:
            self._seen.forget()
        self._first_piece = True

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the next step depends on beside the masters: tensors by name, and plain values.

        The masters are up to date afterwards.
        """
        decay = 1.0
        if self._seen is not None:
            self._seen.write()
            decay = self._seen.decay
        tensors = {
            f"{self._names[id(weight)]}/{key}": value
            for weight, values in self._adamw.state.items()
            for key, value in values.items()
        }
        scaler = self._scaler.state_dict()
        return tensors, {"steps": self._done, "scaler": scaler, "decay": decay}

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Go on from a `state`; the masters are the caller's to restore."""
        fused = self._adamw.defaults["fused"]
        for group in self._adamw.param_groups:
            for weight in group["params"]:
                prefix = self._names[id(weight)] + "/"
                found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                if found:
                    self._adamw.state[weight] = {
                        # Where AdamW is not fused it counts its steps on the CPU.
                        key: value.to("cpu" if key == "step" and not fused else weight.device)
                        for key, value in found.items()
                    }
        self._done = plain["steps"]
        self._scaler.load_state_dict(plain["scaler"])
        self._schedule.last_epoch = self._done
        for group, base in zip(self._adamw.param_groups, self._schedule.base_lrs, strict=True):
            group["lr"] = base * self._schedule.lr_lambdas[0](self._done)
        self._begin_late_weights()
        self.reload()
        if self._seen is not None:
            self._seen.decay = plain["decay"]

    def state_bytes(self) -> int:
        """Masters and AdamW's moments."""
        moments = sum(
            value.nbytes
            for state in self._adamw.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        copies = [self._seen.bytes] if self._seen is not None else []
        return moments + sum(master.nbytes for _, master in self._lowered) + sum(copies)

    def gradient_bytes(self) -> int:
        """Of the step's float32 gradient."""
        return sum(4 * t.numel() for t in self._trained)


def _holds(group: Mapping[str, Any], weight: Tensor) -> bool:
    return any(member is weight for member in group["params"])


def _groups(
    masters: Mapping[str, Tensor], paces: Mapping[str, Pace], rate: float, decay: float
) -> list[dict[str, Any]]:
    """AdamW's groups: weights of one rate and decay each."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, master in masters.items():
        pace = paces.get(name, Pace())
        decays = master.ndim >= 2 if pace.decays is None else pace.decays
        groups.setdefault((rate * pace.rate, decay if decays else 0.0), []).append(master)
    return [
        {"params": params, "lr": lr, "weight_decay": weight_decay}
        for (lr, weight_decay), params in groups.items()
    ]


def _factor(step: int, steps: int, train: TrainSpec) -> float:
    """Share of the learning rate at `step`: linear warm-up, then the schedule's decay."""
    warmup = math.ceil(train.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    if train.lr_scheduler_type == "linear":
        return max(0.0, 1 - progress)
    if train.lr_scheduler_type == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0
