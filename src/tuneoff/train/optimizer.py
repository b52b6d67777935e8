"""AdamW over the weights that train, with float32 masters where the model computes in less."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from tuneoff.errors import Diverged
from tuneoff.spec import TrainSpec


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019), clipping by the global norm, warm-up and decay.

    `masters` holds, by name, the float32 value of every weight that trains: what AdamW changes and
    what is saved. The model computes with its own copy in its own type, renewed after each step.
    Biases and norms have no weight decay, as in Transformers' Trainer; nor have vectors that
    scale (IA3), which decay would pull to 0 where 1 means no change.
    """

    def __init__(
        self,
        model: nn.Module,
        masters: Mapping[str, Tensor],
        train: TrainSpec,
        learning_rate: float,
        steps: int,
        device: torch.device,
    ) -> None:
        weights = dict(model.named_parameters())
        pairs = [(weights[name], master) for name, master in masters.items()]
        self._lowered = [(w, m) for w, m in pairs if w.dtype != m.dtype]
        self._same: list[Tensor] = [w for w, m in pairs if w.dtype == m.dtype]
        self._trained = [m for _, m in self._lowered] + self._same
        plain = [t for t in self._trained if t.squeeze().ndim < 2]
        decayed = [t for t in self._trained if t.squeeze().ndim >= 2]
        self._adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": train.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            betas=(train.adam_beta1, train.adam_beta2),
            eps=train.adam_epsilon,
            fused=device.type in ("cpu", "cuda"),
        )
        self._schedule = LambdaLR(self._adamw, lambda step: _factor(step, steps, train))
        half = any(w.dtype == torch.float16 for w, _ in self._lowered)
        self._scaler = GradScaler(device.type, enabled=half)
        self._max_norm = train.max_grad_norm or math.inf
        self._device = device
        self._first_piece = True

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._schedule.get_last_lr()[0])

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

    def step(self) -> None:
        """Change the weights; `Diverged` if the gradient is not finite (checked on a CPU).

        On an accelerator the check would stop the device in each step; there the loop looks at the
        losses whenever it logs them.
        """
        self._scaler.unscale_(self._adamw)
        norm = nn.utils.clip_grad_norm_(self._trained, self._max_norm, foreach=True)
        if self._device.type == "cpu" and not self._scaler.is_enabled() and not norm.isfinite():
            raise Diverged(f"the gradient became {norm.item()}")
        self._scaler.step(self._adamw)
        self._scaler.update()
        self._schedule.step()
        self.renew()
        for weight in self._same:
            weight.grad = None
        self._first_piece = True

    @torch.no_grad()
    def renew(self) -> None:
        """Copy the masters into the model."""
        if self._lowered:
            weights, masters = zip(*self._lowered, strict=True)
            torch._foreach_copy_(list(weights), list(masters))

    def state_bytes(self) -> int:
        """Masters and AdamW's moments."""
        moments = sum(
            value.nbytes
            for state in self._adamw.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        return moments + sum(master.nbytes for _, master in self._lowered)

    def gradient_bytes(self) -> int:
        """Of the step's float32 gradient."""
        return sum(4 * t.numel() for t in self._trained)


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
