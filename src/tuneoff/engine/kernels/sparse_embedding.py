"""Token embeddings that train: AdamW over the rows that a training can change.

Most of a vocabulary does not occur in the training rows. Such a row's gradient is 0 in every step,
its moments stay 0, and AdamW does nothing to it but decay. So it need not be visited: on short
texts the passes over the whole matrix (gradient, norm, two moments, weight) are half of a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuneoff.engine.data.tokens import TokenStore

_CHUNK = 1 << 22
"""Token ids that are counted at once: 16 MB."""


def seen_ids(tokens: TokenStore, vocabulary: int) -> Tensor:
    """(rows,) the token ids that occur, in order; reads the whole store once."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(tokens.ids), _CHUNK):
        counts += np.bincount(tokens.ids[start : start + _CHUNK], minlength=vocabulary)
    return torch.from_numpy(counts.nonzero()[0])


def can_be_taken_apart(embedding: Any) -> bool:
    """Whether a look-up in `embedding` is that of plain PyTorch."""
    return type(embedding) is nn.Embedding and embedding.max_norm is None


class SparseEmbedding:
    """The rows `ids` of an embedding on a CPU, as a parameter of their own that AdamW steps.

    `master` is the whole matrix in float32: the embedding's own weight, or its source where the
    model computes in less. Until `flush` it lacks the last steps.
    """

    def __init__(self, embedding: nn.Embedding, master: Tensor, ids: Tensor) -> None:
        if embedding.padding_idx is not None:  # has no gradient either
            ids = ids[ids != embedding.padding_idx]
        self._weight, self._master, self._ids = embedding.weight.detach(), master.detach(), ids
        self.part = nn.Parameter(self._master[ids])
        """(ids, width) float32."""
        self._places = torch.full((len(self._weight),), len(ids))
        self._places[ids] = torch.arange(len(ids))
        # The last row gathers what belongs to none.
        self._gradient = torch.zeros(len(ids) + 1, self.part.shape[1])
        self.decay = 1.0
        """By which the other rows are still to be multiplied."""
        embedding.forward = self._look_up  # type: ignore[method-assign]

    @property
    def bytes(self) -> int:
        """Of the part, and of the whole master where it is not the model's own weight."""
        lowered = self._master.data_ptr() != self._weight.data_ptr()
        return self.part.nbytes + (self._master.nbytes if lowered else 0)

    def _look_up(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.part.requires_grad:
            return _LookUp.apply(self.part, input, self)  # type: ignore[no-any-return, no-untyped-call]
        return F.embedding(input, self._weight)

    def gather(self, ids: Tensor, gradient: Tensor) -> None:
        """Add the gradient (…, width) of a look-up of `ids` (…) to that of the step."""
        places = self._places[ids.flatten()]
        self._gradient.index_add_(0, places, gradient.reshape(-1, gradient.shape[-1]).float())
        self.part.grad = self._gradient[:-1]

    def zero_grad(self) -> None:
        """Drop the step's gradient."""
        self._gradient.zero_()
        self.part.grad = None

    @torch.no_grad()
    def sync_model(self) -> None:
        """Let the model look up what the optimizer made of the rows."""
        self._weight.index_copy_(0, self._ids, self.part.to(self._weight.dtype))

    @torch.no_grad()
    def write(self) -> None:
        """Bring the master's rows up to date, but for the decay of the others."""
        self._master.index_copy_(0, self._ids, self.part)

    @torch.no_grad()
    def flush(self) -> None:
        """Bring master and model up to date in full."""
        if self.decay != 1:
            self._master.mul_(self.decay)
            self.decay = 1.0
        self.write()
        self._weight.copy_(self._master)

    @torch.no_grad()
    def reload(self) -> None:
        """Take rows and model from the master, which has changed."""
        self.part.copy_(self._master[self._ids])
        self._weight.copy_(self._master)


class _LookUp(torch.autograd.Function):
    """Rows of the model's own weight; their gradient goes to the optimizer's part of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ids: Tensor, rows: SparseEmbedding) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = rows
        return F.embedding(ids, rows._weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.rows.gather(*ctx.saved_tensors, gradients[0])
        return None, None, None
