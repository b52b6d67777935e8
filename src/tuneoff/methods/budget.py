"""A share of the parameters in place of a rank, so that methods compare at equal budgets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from tuneoff.exceptions import BadInput
from tuneoff.methods.base import Architecture

if TYPE_CHECKING:
    from torch import nn

_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")


def parse_budget(text: str) -> float:
    """`"4.67%"` as 0.0467; `ValueError` for anything that is no percentage in (0, 100)."""
    match = _PERCENT.fullmatch(text)
    if not match or not 0 < float(match[1]) < 100:
        raise ValueError(f"budget is a percentage such as '4.67%', not {text!r}")
    return float(match[1]) / 100


def elements(parameter: nn.Parameter) -> int:
    """Weights in a parameter, also where two lie in a byte (bitsandbytes in 4 bits)."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else prod(state.shape)


def ranks_within(
    budget: str, model: nn.Module, architecture: Architecture, per_rank: Mapping[str, int]
) -> dict[str, int]:
    """A rank for each module, so that trained weights make up `budget` of all, adapter included.

    `per_rank`: weights that one more rank takes, by module. The head counts as trained. What a
    whole rank more would overshoot goes to the uppermost modules, one rank each.
    """
    share = parse_budget(budget)
    total = head = 0
    for name, parameter in model.named_parameters():
        total += elements(parameter)
        head += elements(parameter) if architecture.is_head(name) else 0
    wanted = (share * total - head) / (1 - share)
    whole = sum(per_rank.values())
    rank, left = divmod(wanted, whole)
    if rank < 1:
        least = 100 * (head + whole) / (total + whole)
        raise BadInput(
            f"budget: {budget} is less than rank 1 takes with the head ({least:.2f}%)",
            hint="Raise it, or name fewer targets or layers.",
        )
    ranks = dict.fromkeys(per_rank, int(rank))
    for name in reversed(list(per_rank)):
        if left < per_rank[name] / 2:
            break
        ranks[name] += 1
        left -= per_rank[name]
    return ranks
