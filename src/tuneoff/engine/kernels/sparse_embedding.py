"""Trained token embeddings: AdamW over only those rows whose tokens occur.

Most tokens of a vocabulary do not occur in the training rows. The gradient and the moments of such
an embedding row are always 0, so AdamW applies only weight decay to it, which can be done later. On
short texts, the passes over the full matrix (gradient, norm, two moments, weight) would take half
of the time of a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuneoff.engine.data.tokens import TokenStore

_CHUNK = 1 << 22
"""Number of token ids that are counted at once (16 MB)."""


def seen_ids(tokens: TokenStore, vocabulary: int) -> Tensor:
    """Return the token ids that occur, (ids,), sorted; this reads the full store once."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(tokens.ids), _CHUNK):
        counts += np.bincount(tokens.ids[start : start + _CHUNK], minlength=vocabulary)
    return torch.from_numpy(counts.nonzero()[0])


def can_be_taken_apart(embedding: Any) -> bool:
    """Return whether `embedding` is a plain `nn.Embedding`, which `SparseEmbedding` can replace."""
    return type(embedding) is nn.Embedding and embedding.max_norm is None


class SparseEmbedding:
    """The rows `ids` of an embedding on a CPU as a separate parameter for AdamW.

    Args:
        embedding: The embedding layer; its `forward` is replaced.
        master: The full matrix in float32: the weight of the embedding, or the master of this
            weight if the model computes in lower precision. It is up to date only after `flush`.
        ids: Token ids that occur in the training rows.
    """

    def __init__(self, embedding: nn.Embedding, master: Tensor, ids: Tensor) -> None:
        if embedding.padding_idx is not None:  # its gradient is always 0, too
            ids = ids[ids != embedding.padding_idx]
        self._weight, self._master, self._ids = embedding.weight.detach(), master.detach(), ids
        self.part = nn.Parameter(self._master[ids])
        """(ids, width) float32."""
        self._places = torch.full((len(self._weight),), len(ids))
        self._places[ids] = torch.arange(len(ids))
        # The last row collects the gradients of all other ids.
        self._gradient = torch.zeros(len(ids) + 1, self.part.shape[1])
        self.decay = 1.0
        """Pending weight decay: factor by which `flush` multiplies the other rows."""
        embedding.forward = self._look_up  # type: ignore[method-assign]

    @property
    def bytes(self) -> int:
        """Size of `part`, and of the master if it is not the weight of the model."""
        separate = self._master.data_ptr() != self._weight.data_ptr()
        return self.part.nbytes + (self._master.nbytes if separate else 0)

    def _look_up(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.part.requires_grad:
            return _LookUp.apply(self.part, input, self)  # type: ignore[no-any-return, no-untyped-call]
        return F.embedding(input, self._weight)

    def gather(self, ids: Tensor, gradient: Tensor) -> None:
        """Add the gradient (…, width) of a look-up of `ids` (…) to the gradient of the step."""
        places = self._places[ids.flatten()]
        self._gradient.index_add_(0, places, gradient.reshape(-1, gradient.shape[-1]).float())
        self.part.grad = self._gradient[:-1]

    def zero_grad(self) -> None:
        """Set the gradient of the step to zero."""
        self._gradient.zero_()
        self.part.grad = None

    @torch.no_grad()
    def sync_model(self) -> None:
        """Copy the rows, as the optimizer updated them, to the weight of the model."""
        self._weight.index_copy_(0, self._ids, self.part.to(self._weight.dtype))

    @torch.no_grad()
    def write(self) -> None:
        """Copy the rows to the master; the decay of the other rows stays pending."""
        self._master.index_copy_(0, self._ids, self.part)

    @torch.no_grad()
    def flush(self) -> None:
        """Bring the master and the weight of the model up to date, including all decay."""
        if self.decay != 1:
            self._master.mul_(self.decay)
            self.decay = 1.0
        self.write()
        self._weight.copy_(self._master)

    @torch.no_grad()
    def reload(self) -> None:
        """Copy the rows and the weight of the model from the master, after it has changed."""
        self.part.copy_(self._master[self._ids])
        self._weight.copy_(self._master)


class _LookUp(torch.autograd.Function):
    """Look-up in the weight of the model; the gradient goes to `SparseEmbedding.part`."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ids: Tensor, rows: SparseEmbedding) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = rows
        return F.embedding(ids, rows._weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.rows.gather(*ctx.saved_tensors, gradients[0])
        return None, None, None
