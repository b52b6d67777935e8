"""Number of parameters; shared and copied ones are counted once."""

from __future__ import annotations

from torch import nn

from tuneoff.engine.model.architecture import EncoderArchitecture
from tuneoff.engine.model.load import counted_parameters
from tuneoff.methods.budget import elements
from tuneoff.results.record import Parameters


def count_parameters(model: nn.Module, architecture: EncoderArchitecture) -> Parameters:
    """Count all and trainable parameters, the latter separately for body and head.

    A head that PEFT copied is counted once.
    """
    total = body = head = 0
    for name, parameter in counted_parameters(model).items():
        count = elements(parameter)
        total += count
        if parameter.requires_grad and architecture.is_head(name):
            head += count
        elif parameter.requires_grad:
            body += count
    return Parameters(
        total=total,
        trainable=body + head,
        trainable_body=body,
        trainable_head=head,
        trainable_percent=100 * (body + head) / total,
    )
