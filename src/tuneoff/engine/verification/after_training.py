"""What every run is held to at its end: the right weights changed, and the saved model is the one
that was measured."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tuneoff.engine.data.batches import batch, inference_tokens
from tuneoff.engine.data.task import Split
from tuneoff.engine.kernels.packed_forward import Classifier, has_virtual_tokens, unwrapped
from tuneoff.engine.model.kv_cache import pass_prefix
from tuneoff.engine.model.load import (
    REBUILT,
    PreparedModel,
    counted_parameters,
    load_trained,
    quantization,
)
from tuneoff.engine.model.out_of_memory import PassSize
from tuneoff.engine.model.padding import TOLERANCE, padded_inputs
from tuneoff.results.record import LogitDifference

SAMPLE = 16
"""Rows of the validation split on which a saved model is compared with the trained one."""

ALONE = 4
"""Of these rows, how many are computed by themselves, too."""


class ParameterSnapshot:
    """Remembers, by SHA-256, the weights as they were before the training."""

    def __init__(self, prepared: PreparedModel) -> None:
        self._trained = _hashes(prepared.masters)
        self._frozen = _hashes(_frozen(prepared))

    def unchanged(self, prepared: PreparedModel, share: float = 1.0) -> list[str]:
        """Weights that were to train and are as they were.

        `share` of the training lies behind the weights that were kept: what begins to train later
        than the best epoch need not have changed.
        """
        now, given_up = _hashes(prepared.masters), prepared.hook.given_up(prepared.masters)
        same = [name for name, value in self._trained.items() if now[name] == value]
        late = {name for name, group in prepared.param_groups.items() if group.start >= share}
        return [name for name in same if name not in given_up and name not in late]

    def changed(self, prepared: PreparedModel) -> list[str]:
        """Weights that were frozen and are not as they were."""
        now = _hashes(_frozen(prepared))
        return [name for name, value in self._frozen.items() if now[name] != value]


def _frozen(prepared: PreparedModel) -> dict[str, Tensor]:
    """By name, what is not to change: parameters that do not train, and buffers."""
    model = prepared.classifier.model
    weights: dict[str, Tensor] = {**counted_parameters(model), **dict(model.named_buffers())}
    return {name: value for name, value in weights.items() if name not in prepared.masters}


def _hashes(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: _hash(weight) for name, weight in weights.items()}


def _hash(weight: Tensor) -> bytes:
    plain = weight.detach().cpu().contiguous().flatten()
    return hashlib.sha256(plain.view(torch.uint8).numpy().data).digest()


def sample_rows(split: Split) -> npt.NDArray[np.int64]:
    """Positions of `SAMPLE` rows, from the shortest to the longest."""
    by_length = np.argsort(split.tokens.lengths, kind="stable")
    places = np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(np.int64)
    return by_length[places]


@torch.no_grad()
def sample_logits(classifier: Classifier, split: Split, device: torch.device) -> Tensor:
    """(rows, labels) of the sample, by the model in memory; on the CPU."""
    classifier.eval()
    passes = PassSize(inference_tokens(device)).over(
        split.tokens.lengths,
        sample_rows(split),
        lambda rows: classifier(batch(split, rows).to(device)).cpu(),
    )
    return torch.cat(list(passes))


@torch.no_grad()
def alone_and_mixed(
    classifier: Classifier,
    split: Split,
    logits: Tensor,
    device: torch.device,
    *,
    precision: str,
    quantized: bool,
) -> LogitDifference:
    """How far a text's logits alone are from those that it has among texts of other lengths.

    `logits` are those of the sample, mixed as it was; a few of its rows are computed again.
    """
    rows = batch(split, sample_rows(split)).rows  # in the order of the logits
    places = np.linspace(0, len(rows) - 1, min(ALONE, len(rows))).astype(np.int64)
    classifier.eval()
    alone = [classifier(batch(split, rows[[i]]).to(device)).cpu() for i in places]
    tolerance = _tolerance(precision, quantized)
    return LogitDifference.between(torch.cat(alone), logits[places], tolerance)


def _tolerance(precision: str, quantized: bool) -> float:
    """Kernels for 4 bits multiply in bf16 whatever the precision around them."""
    return TOLERANCE["bf16" if quantized else precision]


def reopened(
    folder: Path, split: Split, logits: Tensor, *, precision: str, quantized: bool
) -> tuple[LogitDifference, LogitDifference | None]:
    """How far the model in `folder` is from the `logits` of the sample; then its merged form.

    It is opened by Transformers or PEFT alone, in float32 on the CPU (a quantised one in 4 bits);
    a method whose modules neither knows, by `tuneoff.load`. None: it has nothing to merge.
    """
    if (folder / REBUILT).is_file():
        cpu = torch.device("cpu")
        rebuilt = load_trained(folder, quantized=quantized, dtype=torch.float32, device=cpu)
        found = sample_logits(rebuilt, split, cpu)
        return LogitDifference.between(found, logits, TOLERANCE[precision]), None
    model: Any = open_saved(folder, quantized=quantized)
    found = plain_logits(model, split, sample_rows(split))
    again = LogitDifference.between(found, logits, _tolerance(precision, quantized))
    if not hasattr(model, "peft_config") or has_virtual_tokens(model):
        return again, None
    if quantized:  # merged into the base as it was before it was rounded to 4 bits
        model = open_saved(folder, quantized=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not `merge_and_unload`, which PEFT 0.21 fails at where a head has layers inside.
        model.base_model.merge_adapter()
        merged = plain_logits(model, split, sample_rows(split))
    return again, LogitDifference.between(merged, found, None if quantized else TOLERANCE["fp32"])


def open_saved(folder: Path, *, quantized: bool) -> nn.Module:
    """A saved model, by Transformers or PEFT alone but for a prefix that PEFT cannot pass."""
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    adapter = (folder / "adapter_config.json").is_file()
    kind = AutoPeftModelForSequenceClassification if adapter else AutoModelForSequenceClassification
    options: dict[str, Any] = {"dtype": torch.float32}
    if quantized:
        base = AutoConfig.from_pretrained(folder / "base" if adapter else folder)
        options |= quantization(base, torch.float32, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries: PEFT finds no modules of AdaLoRA's ranks
        model: nn.Module = kind.from_pretrained(folder, **options).eval()
    pass_prefix(model)
    return model


@torch.no_grad()
def plain_logits(
    model: Any, split: Split, rows: npt.NDArray[np.int64], more: Sequence[str] = ()
) -> Tensor:
    """(rows, labels) logits by Transformers or PEFT, each text alone and so without padding.

    In the order in which `batch` has the rows. `more`: inputs that are zeros where they are absent.
    """
    inner = unwrapped(model)
    each = [batch(split, np.array([row])).to(inner.device) for row in batch(split, rows).rows]
    inputs = [padded_inputs(inner, one, "right")[0] for one in each]
    for one in inputs:
        one |= {name: torch.zeros_like(one["input_ids"]) for name in more if name not in one}
    return torch.cat([model(**one).logits.float() for one in inputs])
