"""Budgets of trainable parameters in place of a rank, to compare methods at equal budgets."""

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
    """Return a percentage as a fraction: 0.0467 for `"4.67%"`.

    Raises:
        ValueError: The text is not a percentage in (0, 100).
    """
    match = _PERCENT.fullmatch(text)
    if not match or not 0 < float(match[1]) < 100:
        raise ValueError(f"budget must be a percentage such as '4.67%', not {text!r}")
    return float(match[1]) / 100


def elements(parameter: nn.Parameter) -> int:
    """Return the number of weights of a parameter, including packed 4-bit ones (bitsandbytes)."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else prod(state.shape)


def ranks_within(
    budget: str, model: nn.Module, architecture: Architecture, per_rank: Mapping[str, int]
) -> dict[str, int]:
    """Return a rank for each module, so that `budget` of all weights are trained.

    Args:
        budget: Percentage of the weights of the model, with its adapter; the head counts as
            trained.
        model: Model without the adapter.
        architecture: Its architecture.
        per_rank: Number of weights that one more rank needs, by module, from the embeddings upward.

    Returns:
        The ranks by module. They are equal, except that the uppermost modules may have one more, to
        come close to the budget.

    Raises:
        BadInput: The budget is too small for rank 1.
    """
    ratio = parse_budget(budget)
    total = head = 0
    for name, parameter in model.named_parameters():
        total += elements(parameter)
        head += elements(parameter) if architecture.is_head(name) else 0
    wanted = (ratio * total - head) / (1 - ratio)
    one_rank = sum(per_rank.values())
    rank, left = divmod(wanted, one_rank)
    if rank < 1:
        least = 100 * (head + one_rank) / (total + one_rank)
        raise BadInput(
            f"budget: {budget} is too small: rank 1 and the head need {least:.2f}%",
            hint="Increase the budget, or reduce the targets or layers.",
        )
    ranks = dict.fromkeys(per_rank, int(rank))
    for name in reversed(list(per_rank)):
        if left < per_rank[name] / 2:
            break
        ranks[name] += 1
        left -= per_rank[name]
    return ranks
