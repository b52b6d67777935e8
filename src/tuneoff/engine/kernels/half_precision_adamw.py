"""AdamW on a GPU with gradients in half precision.

PyTorch's AdamW kernel needs gradients in the type of its weights, float32. A float32 copy of all
gradients would cost four bytes per weight, 0.44 GB for BERT-base. It is not needed without gradient
accumulation: the gradient of the step is then in half precision anyway, and AdamW can update the
weights chunk by chunk. The gradients of one chunk after the other are converted in one buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

CHUNK = 16 * 2**20
"""Number of weights whose gradients are converted at once (64 MB); a larger matrix is one chunk."""


@dataclass(frozen=True)
class _Chunk:
    """Weights of one of AdamW's parameter groups, and buffers for their gradients in float32."""

    group: dict[str, Any]
    weights: list[Tensor]
    masters: list[Tensor]
    room: list[Tensor]


class HalfPrecisionAdamW:
    """AdamW for float32 master weights, with the gradients of half-precision weights.

    The moments are in the state of `optimizer`, as if it had taken the steps itself.

    Args:
        optimizer: Its parameters are the masters.
        pairs: (weight, master), of the same shape. A weight that is its own master has a float32
            gradient.
    """

    def __init__(
        self, optimizer: torch.optim.AdamW, pairs: Sequence[tuple[Tensor, Tensor]]
    ) -> None:
        self._state = optimizer.state
        self._pairs = list(pairs)
        group_of = {id(m): group for group in optimizer.param_groups for m in group["params"]}
        parts: list[tuple[dict[str, Any], list[tuple[Tensor, Tensor]]]] = []
        for group in optimizer.param_groups:
            size = CHUNK
            for weight, master in self._pairs:
                if group_of[id(master)] is not group:
                    continue
                if size + master.numel() > CHUNK:
                    parts.append((group, []))
                    size = 0
                parts[-1][1].append((weight, master))
                size += master.numel()
        largest = max(sum(m.numel() for w, m in part if w is not m) for _, part in parts)
        device = self._pairs[0][1].device
        self._room = torch.empty(largest, dtype=torch.float32, device=device)
        self._chunks = [self._chunk(group, part) for group, part in parts]

    def _chunk(self, group: dict[str, Any], part: list[tuple[Tensor, Tensor]]) -> _Chunk:
        buffers, offset = [], 0
        for weight, master in part:
            size = 0 if weight is master else master.numel()
            buffers.append(
                self._room[offset : offset + size].view(master.shape) if size else weight
            )
            offset += size
        return _Chunk(group, [w for w, _ in part], [m for _, m in part], buffers)

    @property
    def bytes(self) -> int:
        """Size of the gradients and of the buffer for their conversion."""
        return self._room.nbytes + sum(weight.nbytes for weight, _ in self._pairs)

    def norm(self) -> Tensor:
        """Return the norm of all gradients together, a float32 scalar on the device."""
        norms: list[Tensor] = []
        for lowered in (True, False):  # one call per type
            gradients = [
                weight.grad
                for weight, master in self._pairs
                if (weight is not master) == lowered and weight.grad is not None
            ]
            if gradients:
                norms += torch._foreach_norm(gradients, 2, dtype=torch.float32)
        total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return total

    @torch.no_grad()
    def step(self, scale: Tensor) -> None:
        """Update the masters with the gradients divided by `scale`, and free the gradients."""
        for chunk in self._chunks:
            masters, gradients = [], []
            halves: tuple[list[Tensor], list[Tensor]] = ([], [])
            for weight, master, buffer in zip(
                chunk.weights, chunk.masters, chunk.room, strict=True
            ):
                gradient = weight.grad
                if gradient is None and master not in self._state:
                    continue  # it is not trained yet
                masters.append(master)
                if weight is master:
                    gradients.append(torch.zeros_like(master) if gradient is None else gradient)
                    continue
                gradients.append(buffer)
                if gradient is None:
                    buffer.zero_()
                else:
                    halves[0].append(buffer)
                    halves[1].append(gradient)
            if halves[0]:
                torch._foreach_copy_(*halves)
            if masters:
                self._change(masters, gradients, chunk.group, scale)
            for weight in chunk.weights:
                weight.grad = None

    def _change(
        self, masters: list[Tensor], gradients: list[Tensor], group: dict[str, Any], scale: Tensor
    ) -> None:
        for master in masters:
            if master not in self._state:
                self._state[master] = {
                    "step": torch.zeros((), dtype=torch.float32, device=master.device),
                    "exp_avg": torch.zeros_like(master),
                    "exp_avg_sq": torch.zeros_like(master),
                }
        states = [self._state[master] for master in masters]
        beta1, beta2 = group["betas"]
        adamw(
            masters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            grad_scale=scale,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
