"""Activation checkpointing: layers that keep their input alone, and compute the rest again.

A layer's activations are most of what training holds beside the weights (in BERT some 17 states
per token and layer, where a state is `hidden_size` numbers). With this only the layers' inputs
stay, for one more forward pass, a third of the time (Chen et al. 2016, arXiv 1604.06174). The
gradients are the same to the bit: what dropout drew is drawn again.
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
    """A switch in `classifier`: whether its layers keep their input alone while they train.

    `dropout`: the stream that the layers' dropout draws from; None: PyTorch's own.
    """

    def __init__(self, classifier: Classifier, dropout: np.random.Generator | None) -> None:
        self.on = False
        self._dropout = dropout
        names = classifier.architecture.layers
        if classifier.parts_tokens:  # the last layer goes on with the first tokens alone: small
            names = names[:-1]
        for name in dict.fromkeys(names):
            self._wrap(unwrapped(classifier.model).get_submodule(name))

    def _wrap(self, layer: nn.Module) -> None:
        from transformers import Cache

        own = layer.forward

        def forward(*inputs: Any, **more: Any) -> Any:
            # A cache of keys that the layer adds to would be added to twice.
            cached = any(isinstance(value, Cache) for value in (*inputs, *more.values()))
            if not self.on or cached or not (layer.training and torch.is_grad_enabled()):
                return own(*inputs, **more)
            return checkpoint(own, *inputs, use_reentrant=False, context_fn=self._contexts, **more)

        layer.forward = forward

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What surrounds a layer's forward pass, and its repetition."""
        if self._dropout is None:
            return nullcontext(), nullcontext()
        return nullcontext(), _drawn_again(self._dropout, self._dropout.bit_generator.state)


@contextmanager
def _drawn_again(stream: np.random.Generator, state: Any) -> Iterator[None]:
    """`stream` gives what it gave from `state` on, and then goes on as if it had not."""
    now = stream.bit_generator.state
    stream.bit_generator.state = state
    try:
        yield
    finally:
        stream.bit_generator.state = now
