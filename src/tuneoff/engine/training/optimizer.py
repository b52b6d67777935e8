"""AdamW over the weights that train, with float32 masters where the model computes in less."""

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
    """AdamW (Loshchilov and Hutter 2019), clipping by the global norm, warm-up and decay.

    `masters` holds, by name, the float32 value of every weight that trains: what AdamW changes and
    what is saved. The model computes with its own copy in its own type, renewed after each step.
    Biases and norms have no weight decay, as in Transformers' Trainer. `param_groups` says, by
    name, which weights train at another rate than the run's, decay otherwise, or begin to train
    later; until they do, no gradient of theirs is computed. Of the matrix named in `seen` only
    those rows are visited that can change; the others decay when `flush` is called.
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
        """`keeps_gradients`: the masters' gradients are read after `step`."""
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
        if on_gpu:  # a graph reads the rate from the device, and AdamW does not wait for it
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
        """Of the next step, for a weight of the run's own pace; in fp16 it waits for the device."""
        return self._base_rate * self._factors[self.steps_done()]

    def last_learning_rate(self) -> float:
        """Of the step before, as `learning_rate`."""
        return self._base_rate * self._factors[max(0, self.steps_done() - 1)]

    def steps_done(self) -> int:
        """Steps that changed the weights; in fp16 this waits for the device.

        A step whose gradient overflowed in fp16 changes nothing and does not count: AdamW's own
        counter stays where it is, and the learning rate with it.
        """
        counter = self._counter() if self._scaler.is_enabled() else None
        return self._done if counter is None else int(counter.item())

    def was_skipped(self) -> bool:
        """Whether the last step changed nothing; to be asked after each step, or never."""
        before, self._not_skipped = self._not_skipped, self.steps_done()
        return self._not_skipped == before

    def _counter(self) -> Tensor | None:
        """AdamW's count of the steps of a weight that every step changes; None before the first."""
        always = self._same[-1] if self._same else self._trained[0]
        return self._adamw.state[always].get("step") if always in self._adamw.state else None

    @property
    def may_skip_steps(self) -> bool:
        """Whether a step whose gradient overflows leaves the weights as they were (fp16)."""
        return self._scaler.is_enabled()

    @property
    def is_waiting(self) -> bool:
        """Whether some weights begin to train in a later step."""
        return bool(self._waiting)

    def backward(self, loss: Tensor, *, is_whole: bool = False) -> None:
        """Add the gradient of `loss` to that of the step; `is_whole`: it is all of it."""
        torch.autograd.backward(self._scaler.scale(loss))
        if is_whole and self._halves is not None:
            return
        gradients: list[Tensor] = []
        buffers: list[Tensor] = []
        for weight, master in self._lowered:
            if weight.grad is not None:
                if master.grad is None:  # and kept: new memory costs a page fault per 4 KB
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
        """Drop what was gathered of a step's gradient."""
        for weight, master in self._lowered:
            weight.grad = None
            if master.grad is not None:
                master.grad.zero_()
        self._forget_same()

    def step(self) -> None:
        """Change the masters; `Diverged` if the gradient is not finite (checked on a CPU).

        Their gradients stand until `sync_model`, which is to follow.

        On an accelerator the check would stop the device in each step; there the loop looks at the
        losses whenever it logs them.
        """
        self.change_masters()
        self.count_step()

    def change_masters(self) -> None:
        """Clip the gradient and let AdamW change the masters; the part of a step that a CUDA graph
        can hold."""
        if self._halves is not None and self._first_piece:
            self._halves.step((self._halves.norm() / self._max_norm).clamp_min(1.0))
            return
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._adamw)
        if self._device.type == "cuda" and not self._scaler.is_enabled():
            gradients = [t.grad for t in self._trained if t.grad is not None]
            norm = nn.utils.get_total_norm(gradients, foreach=True)
            # AdamW divides the gradient by this while it reads it, without a pass of its own.
            scale = (norm / self._max_norm).clamp_min(1.0)
            self._adamw.grad_scale = scale  # type: ignore[attr-defined]
            self._adamw.step()
            if self._halves is not None:  # most steps need no gradient in float32
                for _, master in self._lowered:
                    master.grad = None
            return
        norm = nn.utils.clip_grad_norm_(self._trained, self._max_norm, foreach=True)
        if self._device.type == "cpu" and not self._scaler.is_enabled() and not norm.isfinite():
            raise Diverged(f"the gradient became {norm.item()}")
        self._scaler.step(self._adamw)

    def count_step(self) -> None:
        """Advance the learning rates, and in fp16 the scale of the loss."""
        self._scaler.update()
        if self._seen is not None and self._seen.part.grad is not None:
            group = next(g for g in self._adamw.param_groups if _holds(g, self._seen.part))
            self._seen.decay *= 1 - group["lr"] * group["weight_decay"]
        self._done += 1
        self._set_rates()
        self._begin_late_weights()

    def _set_rates(self) -> None:
        """Give AdamW the learning rates of the next step, without waiting for the device."""
        last = len(self._factors) - 1
        counter = self._counter() if self._factors_there is not None else None
        if counter is not None and self._factors_there is not None:
            at = counter.long().clamp(max=last).view(1)
            factor: Tensor | float = self._factors_there.index_select(0, at).squeeze(0)
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
        """Copy the masters into the model, and forget the step's gradient."""
        self._forget_same()
        if self._lowered:
            weights, masters = zip(*self._lowered, strict=True)
            torch._foreach_copy_(list(weights), list(masters))
        if self._seen is not None:
            self._seen.sync_model()

    def flush(self) -> None:
        """Bring the masters and the model up to date where steps have left rows behind."""
        if self._seen is not None:
            self._seen.flush()

    def reload(self) -> None:
        """Go on from masters that were changed from outside."""
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
        self._not_skipped = self.steps_done()
        self._scaler.load_state_dict(plain["scaler"])
        self._set_rates()
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
        """Of the step's gradient: float32, but on a GPU in the weights' own type."""
        if self._halves is not None:
            return self._halves.bytes
        return sum(4 * t.numel() for t in self._trained)


def _holds(group: Mapping[str, Any], weight: Tensor) -> bool:
    return any(member is weight for member in group["params"])


def _groups(
    masters: Mapping[str, Tensor], param_groups: Mapping[str, ParamGroup], rate: float, decay: float
) -> list[dict[str, Any]]:
    """AdamW's groups: weights of one rate and decay each."""
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
