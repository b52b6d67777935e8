"""Baseline without training: the pretrained model, with a random head if it has none."""

from __future__ import annotations

from tuneoff.methods.base import Method
from tuneoff.methods.head import apply

BASELINE = Method(
    name="baseline",
    family="baseline",
    summary="nothing: the pretrained model is evaluated as it is",
    apply=apply,
    trains_head=False,
    limits="a model without a trained head for the labels of the task predicts at random",
)
