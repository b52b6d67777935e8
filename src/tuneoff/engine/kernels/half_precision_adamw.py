"""AdamW on a GPU from gradients in half precision.

AdamW's kernel takes gradients of its weights' own type, float32. To keep all of them in float32
beside the half-precision ones costs four bytes per weight, 0.44 GB for BERT-base, and is not
needed: a step that is computed in one piece has its whole gradient in half precision, and AdamW
changes some weights after the others. Their gradients are converted in turn, in the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

CHUNK = 16 * 2**20
"""Weights whose gradients are converted at once (64 MB), or one larger matrix."""


@dataclass(frozen=True)
class _Chunk:
    """Weights of one of AdamW's groups, and room for their gradients in float32."""

    group: dict[str, Any]
    weights: list[Tensor]
    masters: list[Tensor]
    room: list[Tensor]


class HalfPrecisionAdamW:
    """Takes AdamW's steps for `masters`, whose gradients are those of `weights`.

    `pairs`: (weight, master) of one shape each; a weight that is its own master has its gradient
    in float32. The moments are in `optimizer`'s state, as if it had taken the steps itself.
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
        most = max(sum(m.numel() for w, m in part if w is not m) for _, part in parts)
        device = self._pairs[0][1].device
        self._room = torch.empty(most, dtype=torch.float32, device=device)
        self._chunks = [self._chunk(group, part) for group, part in parts]

    def _chunk(self, group: dict[str, Any], part: list[tuple[Tensor, Tensor]]) -> _Chunk:
        room, at = [], 0
        for weight, master in part:
            size = 0 if weight is master else master.numel()
            room.append(self._room[at : at + size].view(master.shape) if size else weight)
            at += size
        return _Chunk(group, [w for w, _ in part], [m for _, m in part], room)

    @property
    def bytes(self) -> int:
        """Of the gradients, and of the room for their conversion."""
        return self._room.nbytes + sum(weight.nbytes for weight, _ in self._pairs)

    def norm(self) -> Tensor:
        """The norm of the whole gradient, a scalar in float32."""
        norms: list[Tensor] = []
        for lowered in (True, False):  # one call for each type
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
        """Change the masters by the gradients over `scale`, and drop the gradients."""
        for chunk in self._chunks:
            masters, gradients = [], []
            halves: tuple[list[Tensor], list[Tensor]] = ([], [])
            for weight, master, room in zip(chunk.weights, chunk.masters, chunk.room, strict=True):
                gradient = weight.grad
                if gradient is None and master not in self._state:
                    continue  # it has not begun to train
                masters.append(master)
                if weight is master:
                    gradients.append(torch.zeros_like(master) if gradient is None else gradient)
                    continue
                gradients.append(room)
                if gradient is None:
                    room.zero_()
                else:
                    halves[0].append(room)
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
