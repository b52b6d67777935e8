"""The learning rate that a run uses when it is left to the method."""

from __future__ import annotations

from pathlib import Path

from tuneoff.methods.base import Method
from tuneoff.spec import RunSpec


def learning_rate(spec: RunSpec, chosen: Method, hidden_size: int) -> float | None:
    """The rate that `spec` asks for, or the method's default for an encoder of this width.

    Defaults are given for a hidden size of 768; a narrower encoder takes larger steps, because an
    adaptive step of a given size moves an output by as much as there are inputs (Yang et al. 2022,
    Tensor Programs V). The square, at most 4, is empirical: it fits the rates in use for BERT-large
    (3e-5) and BERT-base (5e-5), and MiniLM on banking77, where after one epoch of `full` 1e-4 gave
    0.67 macro-F1 on validation and 2e-4 gave 0.77.
    """
    if chosen.learning_rate is None:
        return None
    if spec.train.learning_rate != "auto":
        return spec.train.learning_rate
    return chosen.learning_rate * min(4.0, (768 / hidden_size) ** 2)


def hidden_size(model_path: Path) -> int:
    """Width of the pretrained model's states, from its configuration alone."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(model_path, trust_remote_code=False).hidden_size)
