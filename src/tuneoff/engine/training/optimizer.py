"""AdamW with float32 master weights, if the model computes in lower precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from tuneoff.config import TrainSpec
from tuneoff.engine.kernels.half_precision_adamw import HalfPrecisionAdamW
from tuneoff.engine.kernels.sparse_embedding import SparseEmbedding
from tuneoff.exceptions import Diverged
from tuneoff.methods.base import ParamGroup


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with clipping of the global norm and a schedule.

    AdamW updates the float32 masters, which are also what is saved. The model computes with its own
    copy in its own type, which is updated after each step. Biases and normalisation weights have no
    weight decay, as in Transformers' Trainer.

    Args:
        model: The model, with the weights to train.
        masters: Float32 value of each trained weight, by name.
        train: Training settings.
        learning_rate: Peak learning rate.
        steps: Total number of optimizer steps.
        device: Device of the model.
        param_groups: Weights, by name, with another learning rate or weight decay, or that are
            trained only from a later step on. No gradient is computed for them before.
        seen: Name of the token embeddings and their sparse form. A step updates only their rows
            that can change; the decay of the others is applied by `flush`.
        keeps_gradients: Whether the gradients of the masters are needed after `step`.
    """

    def __init__(
        self,
        model: nn.Module,
        masters: Mapping[str, Tensor],
        train: TrainSpec,
        learning_rate: float,
        steps: int,
        device: torch.device,
        param_groups: Mapping[str, ParamGroup] | None = None,
        seen: tuple[str, SparseEmbedding] | None = None,
        *,
        keeps_gradients: bool = False,
    ) -> None:
        param_groups = param_groups or {}
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
            (math.ceil(param_groups[name].start * steps), weights[name])
            for name in masters
            if name in param_groups and param_groups[name].start > 0
        ]
        for _, weight in self._waiting:
            weight.requires_grad_(False)
        on_gpu = device.type == "cuda"
        groups = _groups(masters, param_groups, learning_rate, train.weight_decay)
        self._rates = [group["lr"] for group in groups]
        if on_gpu:  # a CUDA graph reads the rate from the device, and AdamW does not synchronise
            for group in groups:
                group["lr"] = torch.tensor(group["lr"], device=device)
        self._adamw = torch.optim.AdamW(
            groups,
            lr=learning_rate,
            betas=(train.adam_beta1, train.adam_beta2),
            eps=train.adam_epsilon,
            fused=device.type in ("cpu", "cuda"),
            capturable=on_gpu,
        )
        half = any(w.dtype == torch.float16 for w, _ in self._lowered)
        self._scaler = GradScaler(device.type, enabled=half)
        self._factors = [_factor(i, steps, train) for i in range(steps + 1)]
        self._factors_there = torch.tensor(self._factors, device=device) if half else None
        self._base_rate = learning_rate
        self._done = self._not_skipped = 0
        self._set_rates()
        self._max_norm = train.max_grad_norm or math.inf
        self._device = device
        self._first_piece = True
        self._halves: HalfPrecisionAdamW | None = None
        if on_gpu and self._lowered and not half and not keeps_gradients:
            same = [(weight, weight) for weight in self._same]
            self._halves = HalfPrecisionAdamW(self._adamw, self._lowered + same)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step, without the factors of `param_groups`.

        In fp16 this waits for the device.
        """
        return self._base_rate * self._factors[self.steps_done()]

    def last_learning_rate(self) -> float:
        """Return the learning rate of the last step, as `learning_rate`."""
        return self._base_rate * self._factors[max(0, self.steps_done() - 1)]

    def steps_done(self) -> int:
        """Return the number of steps that changed weights; in fp16 this waits for the device.

        In fp16, a step whose gradient overflows changes nothing and is not counted. It advances
        neither AdamW's step counter nor the learning rate.
        """
        counter = self._counter() if self._scaler.is_enabled() else None
        return self._done if counter is None else int(counter.item())

    def was_skipped(self) -> bool:
        """Return whether the last step changed nothing; to be called after each step, or never."""
        before, self._not_skipped = self._not_skipped, self.steps_done()
        return self._not_skipped == before

    def _counter(self) -> Tensor | None:
        """Return AdamW's step counter of a weight that all steps change; None before the first."""
        always = self._same[-1] if self._same else self._trained[0]
        return self._adamw.state[always].get("step") if always in self._adamw.state else None

    @property
    def may_skip_steps(self) -> bool:
        """Whether a step is skipped if its gradient overflows (fp16)."""
        return self._scaler.is_enabled()

    @property
    def is_waiting(self) -> bool:
        """Whether some weights are trained only from a later step on."""
        return bool(self._waiting)

    def backward(self, loss: Tensor, *, is_whole: bool = False) -> None:
        """Add the gradient of `loss` to the gradient of the step.

        `is_whole` says that the loss is that of the whole step.
        """
        torch.autograd.backward(self._scaler.scale(loss))
        if is_whole and self._halves is not None:
            return
        gradients: list[Tensor] = []
        buffers: list[Tensor] = []
        for weight, master in self._lowered:
            if weight.grad is not None:
                if master.grad is None:  # kept, because new memory costs a page fault per 4 KB
                    master.grad = torch.zeros_like(master)
                gradients.append(weight.grad)
                buffers.append(master.grad)
            elif self._first_piece and master.grad is not None:
                master.grad.zero_()
            weight.grad = None
        if gradients and self._first_piece:
            torch._foreach_copy_(buffers, gradients)
        elif gradients:
            torch._foreach_add_(buffers, gradients)
        self._first_piece = False

    def zero_grad(self) -> None:
        """Set the accumulated gradient of the step to zero."""
        for weight, master in self._lowered:
            weight.grad = None
            if master.grad is not None:
                master.grad.zero_()
        self._forget_same()

    def step(self) -> None:
        """Update the masters. Call `sync_model` next, which also resets the gradients.

        Raises:
            Diverged: The gradient is not finite. This is checked on a CPU only, because on an
                accelerator it would synchronise in each step. There, the loop checks the loss
                whenever it is logged.
        """
        self.change_masters()
        self.count_step()

    def change_masters(self) -> None:
        """Clip the gradient and update the masters.

        A CUDA graph can capture this part of a step.
        """
        if self._halves is not None and self._first_piece:
            self._halves.step((self._halves.norm() / self._max_norm).clamp_min(1.0))
            return
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._adamw)
        if self._device.type == "cuda" and not self._scaler.is_enabled():
            gradients = [t.grad for t in self._trained if t.grad is not None]
            norm = nn.utils.get_total_norm(gradients, foreach=True)
            # AdamW divides the gradient by this while reading it, so no separate pass is needed.
            scale = (norm / self._max_norm).clamp_min(1.0)
            self._adamw.grad_scale = scale  # type: ignore[attr-defined]
            self._adamw.step()
            if self._halves is not None:  # most steps need no float32 gradients
                for _, master in self._lowered:
                    master.grad = None
            return
        norm = nn.utils.clip_grad_norm_(self._trained, self._max_norm, foreach=True)
        if self._device.type == "cpu" and not self._scaler.is_enabled() and not norm.isfinite():
            raise Diverged(f"the gradient became {norm.item()}")
        self._scaler.step(self._adamw)

    def count_step(self) -> None:
        """Update the learning rates, and in fp16 the loss scale."""
        self._scaler.update()
        if self._seen is not None and self._seen.part.grad is not None:
            group = next(g for g in self._adamw.param_groups if _holds(g, self._seen.part))
            self._seen.decay *= 1 - group["lr"] * group["weight_decay"]
        self._done += 1
        self._set_rates()
        self._begin_late_weights()

    def _set_rates(self) -> None:
        """Set the learning rates of the next step, without waiting for the device."""
        last = len(self._factors) - 1
        counter = self._counter() if self._factors_there is not None else None
        if counter is not None and self._factors_there is not None:
            index = counter.long().clamp(max=last).view(1)
            factor: Tensor | float = self._factors_there.index_select(0, index).squeeze(0)
        else:
            factor = self._factors[min(self._done, last)]
        for group, rate in zip(self._adamw.param_groups, self._rates, strict=True):
            if not isinstance(group["lr"], Tensor):
                group["lr"] = rate * float(factor)
            elif isinstance(factor, Tensor):
                group["lr"].copy_(rate * factor)
            else:
                group["lr"].fill_(rate * factor)

    def _begin_late_weights(self) -> None:
        for first, weight in self._waiting:
            weight.requires_grad_(self._done >= first)
        self._waiting = [pair for pair in self._waiting if pair[0] > self._done]

    @torch.no_grad()
    def sync_model(self) -> None:
        """Copy the masters to the model, and reset the gradient of the step."""
        self._forget_same()
        if self._lowered:
            weights, masters = zip(*self._lowered, strict=True)
            torch._foreach_copy_(list(weights), list(masters))
        if self._seen is not None:
            self._seen.sync_model()

    def flush(self) -> None:
        """Apply pending updates of the token embeddings to the masters and the model."""
        if self._seen is not None:
            self._seen.flush()

    def reload(self) -> None:
        """Copy the masters to the model after something else changed them."""
        if self._seen is not None:
            self._seen.reload()
        self.sync_model()

    def _forget_same(self) -> None:
        for weight in self._same:
            weight.grad = None
        if self._seen is not None:
            self._seen.zero_grad()
        self._first_piece = True

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state of the optimizer without the masters: tensors by name, plain values.

        The masters are up to date afterwards, except for pending decay of the token embeddings.
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
        """Restore a `state`; the caller must have restored the masters before."""
        fused = self._adamw.defaults["fused"]
        for group in self._adamw.param_groups:
            for weight in group["params"]:
                prefix = self._names[id(weight)] + "/"
                state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                if state:
                    self._adamw.state[weight] = {
                        # If AdamW is not fused, its step counter is on the CPU.
                        key: value.to("cpu" if key == "step" and not fused else weight.device)
                        for key, value in state.items()
                    }
        self._done = plain["steps"]
        self._not_skipped = self.steps_done()
        self._scaler.load_state_dict(plain["scaler"])
        self._set_rates()
        self._begin_late_weights()
        self.reload()
        if self._seen is not None:
            self._seen.decay = plain["decay"]

    def state_bytes(self) -> int:
        """Return the size of the masters and AdamW's moments."""
        moments = sum(
            value.nbytes
            for state in self._adamw.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        copies = [self._seen.bytes] if self._seen is not None else []
        return moments + sum(master.nbytes for _, master in self._lowered) + sum(copies)

    def gradient_bytes(self) -> int:
        """Return the size of the gradients, in float32 or, on a GPU, in the type of the weights."""
        if self._halves is not None:
            return self._halves.bytes
        return sum(4 * t.numel() for t in self._trained)


def _holds(group: Mapping[str, Any], weight: Tensor) -> bool:
    return any(member is weight for member in group["params"])


def _groups(
    masters: Mapping[str, Tensor], param_groups: Mapping[str, ParamGroup], rate: float, decay: float
) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: weights with the same learning rate and weight decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, master in masters.items():
        group = param_groups.get(name, ParamGroup())
        decays = master.ndim >= 2 if group.decays is None else group.decays
        groups.setdefault((rate * group.rate, decay if decays else 0.0), []).append(master)
    return [
        {"params": params, "lr": lr, "weight_decay": weight_decay}
        for (lr, weight_decay), params in groups.items()
    ]


def _factor(step: int, steps: int, train: TrainSpec) -> float:
    """Return the factor of the learning rate at `step`: linear warm-up, then the schedule."""
    warmup = math.ceil(train.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    if train.lr_scheduler_type == "linear":
        return max(0.0, 1 - progress)
    if train.lr_scheduler_type == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0
