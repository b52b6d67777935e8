"""Learning rate of a run."""

from __future__ import annotations

from tuneoff.config import RunSpec
from tuneoff.methods.base import Method


def learning_rate(spec: RunSpec, chosen: Method, hidden_size: int) -> float | None:
    """Return the learning rate of `spec`, or the method's default for an encoder of this width.

    Returns None for methods without gradient descent.
    """
    if chosen.learning_rate is not None and spec.train.learning_rate != "auto":
        return spec.train.learning_rate
    return chosen.rate_for(hidden_size)
