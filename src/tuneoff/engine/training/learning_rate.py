"""The learning rate that a run uses when it is left to the method."""

from __future__ import annotations

from tuneoff.config import RunSpec
from tuneoff.methods.base import Method


def learning_rate(spec: RunSpec, chosen: Method, hidden_size: int) -> float | None:
    """The rate that `spec` asks for, or the method's default for an encoder of this width."""
    if chosen.learning_rate is not None and spec.train.learning_rate != "auto":
        return spec.train.learning_rate
    return chosen.rate_for(hidden_size)
