"""AdaLoRA: low-rank updates whose ranks are reallocated during training (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tuneoff.methods.adapted import attach
from tuneoff.methods.base import Architecture, Hook, Method
from tuneoff.methods.search_ranges import DROPOUT, Span
from tuneoff.methods.targets import Targeted, chosen_linears

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AdaloraConfig(Targeted):
    """Settings of AdaLoRA.

    Every target layer starts with `init_rank`, which is reduced to `rank` on average. Ranks are cut
    every `interval` steps, between the fractions `warmup` and 1 - `settle` of the training.
    `orthogonal` is the weight of the penalty that keeps the factors orthogonal.
    """

    rank: Annotated[int, Span(2, 12, log=True, whole=True)] = 8
    init_rank: int = 12
    alpha: int = 24
    dropout: Annotated[float, DROPOUT] = 0.0
    warmup: float = 0.1
    settle: float = 0.3
    interval: int = 10
    orthogonal: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.rank <= self.init_rank:
            raise ValueError("rank must be at least 1 and at most init_rank")
        if self.alpha <= 0:
            raise ValueError("alpha must be positive")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie in [0, 1)")
        if not (self.warmup >= 0 and self.settle >= 0 and self.warmup + self.settle < 1):
            raise ValueError("warmup and settle must be fractions with a sum below 1")
        if self.interval < 1:
            raise ValueError("interval must be at least 1")
        if self.orthogonal < 0:
            raise ValueError("orthogonal must not be negative")


def apply(model: nn.Module, architecture: Architecture, config: AdaloraConfig) -> nn.Module:
    """Add a trainable update P Lambda Q, in the form of an SVD, to each target layer."""
    import peft

    return attach(
        model,
        architecture,
        peft.AdaLoraConfig(
            task_type=peft.TaskType.SEQ_CLS,
            init_r=config.init_rank,
            target_r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            deltaT=config.interval,
            orth_reg_weight=config.orthogonal,
            total_step=1,  # `begin` sets it, once the number of steps is known
            target_modules=chosen_linears(architecture, config),
        ),
    )


class _Weights:
    """The float32 weights, with the part of a model's interface that PEFT's allocator uses."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self._weights.items())


class _Allocation(Hook):
    """Reallocates ranks with PEFT's allocator, on the float32 weights and their gradients."""

    def __init__(self, model: Any, config: AdaloraConfig) -> None:
        self._peft = model.peft_config["default"]
        self._allocator = model.base_model.rankallocator
        self._config = config
        self._last = 0
        self._is_cut = False
        """Whether the final ranks have been set."""
        self._factors = [
            weight
            for name, weight in model.named_parameters()
            if ".lora_A." in name or ".lora_B." in name
        ]

    def begin(self, steps: int) -> None:
        self._peft.tinit = int(self._config.warmup * steps)
        self._peft.tfinal = int(self._config.settle * steps)
        self._allocator.set_total_step(steps)
        self._last = steps - self._peft.tfinal

    def penalty(self) -> Tensor:
        import torch

        total = torch.zeros((), device=self._factors[0].device)
        for factor in self._factors:
            thin = factor.float() if factor.shape[0] < factor.shape[1] else factor.float().T
            total = total + (thin @ thin.T - torch.eye(len(thin), device=thin.device)).norm()
        return self._config.orthogonal * total / len(self._factors)

    def after_step(self, step: int, weights: Mapping[str, Tensor]) -> None:
        adapter = {name: w for name, w in weights.items() if ".lora_" in name}
        if not self._is_cut:
            # `>=`, because the hook is not called after a step that overflowed in fp16.
            at_end = step >= self._last
            self._is_cut = at_end
            if at_end and self._config.rank == self._config.init_rank:
                return  # nothing to cut
            _, pattern = self._allocator.update_and_allocate(
                _Weights(adapter), step, force_mask=at_end
            )
            self._peft.rank_pattern = pattern or self._peft.rank_pattern
        elif self._peft.rank_pattern:
            self._allocator.mask_using_rank_pattern(_Weights(adapter), self._peft.rank_pattern)

    def state(self) -> dict[str, Tensor]:
        import torch

        kept = {f"average/{n}": t for n, t in self._allocator.exp_avg_ipt.items()}
        kept |= {f"uncertainty/{n}": t for n, t in self._allocator.exp_avg_unc.items()}
        pattern = self._peft.rank_pattern or {}
        if self._is_cut:
            kept["cut"] = torch.ones(())
        return kept | {f"pattern/{n}": torch.tensor(ranks) for n, ranks in pattern.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            size = len(name) + 1
            return {key[size:]: t for key, t in state.items() if key.startswith(name + "/")}

        device = self._factors[0].device
        state = {key: t if key.startswith("pattern/") else t.to(device) for key, t in state.items()}
        self._is_cut = "cut" in state
        self._allocator.exp_avg_ipt = part("average")
        self._allocator.exp_avg_unc = part("uncertainty")
        # The allocator recomputes these values in each step, but expects their names to exist.
        self._allocator.ipt = dict(self._allocator.exp_avg_ipt)
        self._peft.rank_pattern = {n: t.tolist() for n, t in part("pattern").items()} or None

    def given_up(self, weights: Mapping[str, Tensor]) -> set[str]:
        """Return the layers that lost all ranks: their values start at 0 and end at 0."""
        return {name for name, value in weights.items() if ".lora_E." in name and not value.any()}

    def before_save(self, weights: dict[str, Tensor]) -> None:
        """Set the ranks that are saved to those of the best epoch instead of the last one."""
        self._peft.rank_pattern = {
            name.removeprefix("base_model.model."): _kept(value)
            for name, value in weights.items()
            if ".lora_E." in name
        }


def _kept(values: Tensor) -> list[bool]:
    """Return which ranks are kept, at least one, because PEFT cannot load a layer without any."""
    kept: list[bool] = (values != 0).view(-1).tolist()
    return kept if any(kept) else [True, *kept[1:]]


def _allocation(model: nn.Module, config: AdaloraConfig) -> Hook:
    return _Allocation(model, config)


ADALORA = Method(
    name="adalora",
    family="low rank",
    summary="low-rank updates whose ranks are reallocated to the layers where they matter most",
    config=AdaloraConfig,
    learning_rate=2e-3,
    apply=apply,
    hook=_allocation,
    paper="Zhang et al. 2023, https://arxiv.org/abs/2303.10512",
    limits="ranks are reduced step by step, so a short training leaves little time for it",
)
