"""What is small in an encoder trains: its biases (BitFit), or its normalisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.exceptions import BadInput
from tuneoff.methods.base import Architecture, Method, NoConfig

if TYPE_CHECKING:
    from torch import nn


def _biases(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    model.requires_grad_(False)
    biases = [
        w
        for name, w in model.get_submodule(architecture.body).named_parameters()
        if name.endswith("bias")
    ]
    if not biases:
        raise BadInput(f"bitfit trains biases, which a {architecture.model_type} encoder lacks")
    for bias in biases:
        bias.requires_grad_(True)
    return model


def _norms(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    model.requires_grad_(False)
    if not architecture.norms:
        raise BadInput(
            f"layernorm trains normalisations, which a {architecture.model_type} encoder lacks"
        )
    for name in architecture.norms:
        model.get_submodule(name).requires_grad_(True)
    return model


BITFIT = Method(
    name="bitfit",
    family="selective",
    summary="the biases of the encoder",
    learning_rate=1e-3,
    apply=_biases,
    paper="Ben Zaken et al. 2021, https://arxiv.org/abs/2106.10199",
)

LAYERNORM = Method(
    name="layernorm",
    family="selective",
    summary="the normalisations of the encoder",
    learning_rate=1e-3,
    apply=_norms,
    paper="Qi et al. 2022, https://arxiv.org/abs/2211.08682",
)
