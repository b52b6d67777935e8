"""Nothing trains: the model as it comes, a head that it lacks freshly drawn."""

from __future__ import annotations

from tuneoff.methods.base import Method
from tuneoff.methods.head import apply

BASELINE = Method(
    name="baseline",
    family="baseline",
    summary="nothing: the model as it comes",
    apply=apply,
    trains_head=False,
    limits="a model without a trained head for the labels at hand guesses at random",
)
