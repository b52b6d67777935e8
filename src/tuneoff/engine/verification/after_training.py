"""Checks after training: exactly the trainable weights changed, and the saved model is correct."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuneoff.engine.data.batches import batch, inference_tokens
from tuneoff.engine.data.task import Split
from tuneoff.engine.kernels.packed_forward import Classifier, has_virtual_tokens, unwrapped
from tuneoff.engine.model.load import PreparedModel, counted_parameters
from tuneoff.engine.model.out_of_memory import PassSize
from tuneoff.engine.model.padding import TOLERANCE, padded_inputs
from tuneoff.engine.model.saved import REBUILT, load_trained, open_saved
from tuneoff.results.record import LogitDifference

SAMPLE = 16
"""Number of validation rows on which the saved model is compared with the trained one."""

ALONE = 4
"""Number of these rows that are also computed as single texts."""


class ParameterSnapshot:
    """SHA-256 hashes of the weights before training, to detect which of them change."""

    def __init__(self, prepared: PreparedModel) -> None:
        self._trained = _hashes(prepared.masters)
        self._frozen = _hashes(_frozen(prepared))

    def unchanged(self, prepared: PreparedModel, share: float = 1.0) -> list[str]:
        """Return the names of trainable weights that have not changed.

        Args:
            prepared: The model after training.
            share: Ratio of the training up to the best epoch, whose weights the model has. Weights
                that are trained only from a later point on need not have changed.
        """
        now, given_up = _hashes(prepared.masters), prepared.hook.given_up(prepared.masters)
        same = [name for name, value in self._trained.items() if now[name] == value]
        late = {name for name, group in prepared.param_groups.items() if group.start >= share}
        return [name for name in same if name not in given_up and name not in late]

    def changed(self, prepared: PreparedModel) -> list[str]:
        """Return the names of frozen weights that have changed."""
        now = _hashes(_frozen(prepared))
        return [name for name, value in self._frozen.items() if now[name] != value]


def _frozen(prepared: PreparedModel) -> dict[str, Tensor]:
    """Return what must not change, by name: frozen parameters and buffers."""
    model = prepared.classifier.model
    weights: dict[str, Tensor] = {**counted_parameters(model), **dict(model.named_buffers())}
    return {name: value for name, value in weights.items() if name not in prepared.masters}


def _hashes(weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: _hash(weight) for name, weight in weights.items()}


def _hash(weight: Tensor) -> bytes:
    plain = weight.detach().cpu().contiguous().flatten()
    return hashlib.sha256(plain.view(torch.uint8).numpy().data).digest()


def sample_rows(split: Split) -> npt.NDArray[np.int64]:
    """Return the positions of `SAMPLE` rows, evenly from the shortest to the longest text."""
    by_length = np.argsort(split.tokens.lengths, kind="stable")
    ranks = np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(np.int64)
    return by_length[ranks]


@torch.no_grad()
def sample_logits(classifier: Classifier, split: Split, device: torch.device) -> Tensor:
    """Return the logits (rows, labels) of the sample by the model in memory, on the CPU."""
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
    """Compare the logits of single texts with those of the same texts in a mixed batch.

    Args:
        classifier: The trained model.
        split: The validation split.
        logits: Result of `sample_logits`, from batches of texts of different lengths. A few of its
            rows are computed again as single texts.
        device: Device of the model.
        precision: Precision whose rounding the logits have.
        quantized: Whether the body is in 4 bits.
    """
    rows = batch(split, sample_rows(split)).rows  # in the order of the logits
    chosen = np.linspace(0, len(rows) - 1, min(ALONE, len(rows))).astype(np.int64)
    classifier.eval()
    alone = [classifier(batch(split, rows[[i]]).to(device)).cpu() for i in chosen]
    tolerance = _tolerance(precision, quantized)
    return LogitDifference.between(torch.cat(alone), logits[chosen], tolerance)


def _tolerance(precision: str, quantized: bool) -> float:
    """Return the tolerance. 4-bit kernels multiply in bf16, whatever the precision."""
    return TOLERANCE["bf16" if quantized else precision]


def reopened(
    folder: Path, split: Split, logits: Tensor, *, precision: str, quantized: bool
) -> tuple[LogitDifference, LogitDifference | None]:
    """Load a saved model and compare its logits with those of the trained model.

    Transformers or PEFT load the model without tuneoff, in float32 on the CPU (4 bits if
    quantised). If neither knows the modules of the method, `tuneoff.load` loads it.

    Args:
        folder: Folder of the saved model.
        split: The validation split.
        logits: Result of `sample_logits` by the trained model.
        precision: Precision whose rounding the logits have.
        quantized: Whether the body was trained in 4 bits.

    Returns:
        The difference from `logits`, and the difference that merging the adapter makes, or None if
        the model has nothing to merge.
    """
    if (folder / REBUILT).is_file():
        cpu = torch.device("cpu")
        rebuilt = load_trained(folder, quantized=quantized, dtype=torch.float32, device=cpu)
        reloaded_logits = sample_logits(rebuilt, split, cpu)
        return LogitDifference.between(reloaded_logits, logits, TOLERANCE[precision]), None
    model: Any = open_saved(folder, quantized=quantized)
    reloaded_logits = plain_logits(model, split, sample_rows(split))
    again = LogitDifference.between(reloaded_logits, logits, _tolerance(precision, quantized))
    if not hasattr(model, "peft_config") or has_virtual_tokens(model):
        return again, None
    if quantized:  # the adapter is merged into the base model before its rounding to 4 bits
        model = open_saved(folder, quantized=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # `merge_and_unload` fails in PEFT 0.21 if the head contains layers.
        model.base_model.merge_adapter()
        merged = plain_logits(model, split, sample_rows(split))
    return again, LogitDifference.between(
        merged, reloaded_logits, None if quantized else TOLERANCE["fp32"]
    )


@torch.no_grad()
def plain_logits(
    model: Any, split: Split, rows: npt.NDArray[np.int64], more: Sequence[str] = ()
) -> Tensor:
    """Compute logits with Transformers or PEFT, one text at a time and so without padding.

    Args:
        model: A model of Transformers or PEFT.
        split: The split of the rows.
        rows: Positions of the rows in the split.
        more: Names of inputs that are passed as zeros if the split does not have them.

    Returns:
        Logits (rows, labels), in the order of the rows in `batch`.
    """
    inner = unwrapped(model)
    texts = [batch(split, np.array([row])).to(inner.device) for row in batch(split, rows).rows]
    inputs = [padded_inputs(inner, text, "right")[0] for text in texts]
    for text in inputs:
        text |= {name: torch.zeros_like(text["input_ids"]) for name in more if name not in text}
    return torch.cat([model(**text).logits.float() for text in inputs])
