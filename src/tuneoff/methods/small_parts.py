"""Fine-tuning of the biases (BitFit) or of the normalisation layers only."""

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
        raise BadInput(f"bitfit trains biases, but a {architecture.model_type} encoder has none")
    for bias in biases:
        bias.requires_grad_(True)
    return model


def _norms(model: nn.Module, architecture: Architecture, config: NoConfig) -> nn.Module:
    model.requires_grad_(False)
    if not architecture.norms:
        raise BadInput(
            f"layernorm trains normalisation layers, but a {architecture.model_type} encoder has"
            " none with weights"
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
    summary="the normalisation layers of the encoder",
    learning_rate=1e-3,
    apply=_norms,
    paper="Qi et al. 2022, https://arxiv.org/abs/2211.08682",
)
