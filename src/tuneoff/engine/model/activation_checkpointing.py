"""Activation checkpointing: keep only the input of each layer and recompute its activations.

Apart from the weights, training needs most memory for the activations of the layers (in BERT about
17 states per token and layer, where a state has `hidden_size` numbers). With checkpointing only the
inputs of the layers are kept, at the cost of one more forward pass, a third of the time (Chen et
al. 2016, arXiv 1604.06174). The gradients are bit-identical, because dropout draws the same masks
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tuneoff.engine.kernels.packed_forward import Classifier, unwrapped


class Recomputation:
    """Activation checkpointing of the layers of a classifier, switched with the attribute `on`.

    Args:
        classifier: The model; the `forward` methods of its layers are replaced.
        dropout: Random generator of the dropout layers; None: PyTorch's.
    """

    def __init__(self, classifier: Classifier, dropout: np.random.Generator | None) -> None:
        self.on = False
        self._dropout = dropout
        names = classifier.architecture.layers
        if classifier.parts_tokens:  # most of the last layer has only the first tokens: small
            names = names[:-1]
        for name in dict.fromkeys(names):
            self._wrap(unwrapped(classifier.model).get_submodule(name))

    def _wrap(self, layer: nn.Module) -> None:
        from transformers import Cache

        own = layer.forward

        def forward(*inputs: Any, **more: Any) -> Any:
            # With recomputation, the layer would append its keys to a cache twice.
            cached = any(isinstance(value, Cache) for value in (*inputs, *more.values()))
            if not self.on or cached or not (layer.training and torch.is_grad_enabled()):
                return own(*inputs, **more)
            return checkpoint(own, *inputs, use_reentrant=False, context_fn=self._contexts, **more)

        layer.forward = forward

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of a layer's forward pass and of its recomputation."""
        if self._dropout is None:
            return nullcontext(), nullcontext()
        return nullcontext(), _drawn_again(self._dropout, self._dropout.bit_generator.state)


@contextmanager
def _drawn_again(stream: np.random.Generator, state: Any) -> Iterator[None]:
    """Rewind `stream` to `state` within the context; restore its current state afterwards."""
    now = stream.bit_generator.state
    stream.bit_generator.state = state
    try:
        yield
    finally:
        stream.bit_generator.state = now
