"""Check before training: a model's weights, tokenizer and forward pass are what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tuneoff.engine.data.batches import batch
from tuneoff.engine.data.task import Split
from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.kernels.packed_forward import Classifier, choose_padding
from tuneoff.engine.model.load import lower, pretrained
from tuneoff.engine.model.padding import TOLERANCE
from tuneoff.engine.model.precision import DTYPES, Precision
from tuneoff.engine.verification.after_training import plain_logits
from tuneoff.exceptions import BadInput, Issue, ModelUnavailable
from tuneoff.results.record import LogitDifference

ROWS = 3
"""Texts of the mixed batch, from the shortest to the median."""

OTHER = "Take a model of another family; docs/conformance.md lists those that are tested."


@torch.no_grad()
def check_model(
    path: Path,
    labels: Sequence[str],
    split: Split,
    *,
    quantized: bool,
    device: torch.device,
    precision: Precision,
) -> None:
    """Load the model in `path` as a run does, and compare its logits with Transformers' own.

    The reference is Transformers' plain forward pass of one text alone. Held against it are the
    logits that the same text gets by tuneoff's forward pass in a batch of different lengths.

    Args:
        path: Folder of the model and its tokenizer.
        labels: The task's labels.
        split: Rows to take the texts from.
        quantized: Whether to load the body in 4 bits: only where no run loads it otherwise, for
            the whole model might not fit into memory.
        device: Device of the runs. Only a quantised model is checked on a GPU.
        precision: Precision of the runs, in which the model has to run, too.

    Raises:
        BadInput: The tokenizer is incomplete or does not belong to the model, weights of the body
            are missing, unused or of another shape, or the logits differ by more than rounding.
    """
    from transformers import AutoConfig

    tokenizer = load_tokenizer(path)
    kind = f"{AutoConfig.from_pretrained(path, trust_remote_code=False).model_type} model"
    with _named(kind, path, OTHER):
        model, architecture = pretrained(
            path, labels, quantized=quantized, dtype=DTYPES[precision], device=device
        )
        rows = _rows(split)
        # First Transformers alone, because the classifier changes the model.
        plain = plain_logits(model.eval(), split, rows, _zeros(model, tokenizer))
        padding = choose_padding(
            model, architecture, DTYPES[precision] if quantized else torch.float32
        )
        classifier = Classifier(model, architecture, padding).eval()
        inputs = batch(split, rows).to(model.device)
        tolerance = TOLERANCE["bf16" if quantized else "fp32"]
        found = LogitDifference.between(classifier(inputs), plain, tolerance)
    if not torch.as_tensor(plain).isfinite().all():
        raise ModelUnavailable(_not_finite(path, model))
    if not found.passed:
        problem = (
            f"tuneoff cannot run the {kind} correctly: its logits differ from those of Transformers"
            f" by {found.logits:.3g} of their spread (rounding explains {found.tolerance:g})"
        )
        raise ModelUnavailable(Issue(problem, file=str(path), hint=OTHER))
    if not quantized and device.type == "cpu" and precision != "fp32":
        with _named(f"{kind} in {precision}", path, "Set precision to fp32 (--precision fp32)."):
            lower(model, architecture, DTYPES[precision])
            classifier(inputs)


def _not_finite(path: Path, model: nn.Module) -> Issue:
    """Of a model whose own logits are no numbers."""
    names = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    named = f"weights are NaN or infinite: {', '.join(names[:3])}" if names else "logits are NaN"
    hint = "Get the file again, or save the model of a training that did not diverge."
    return Issue(named, file=str(path), hint=hint)


def _rows(split: Split) -> npt.NDArray[np.int64]:
    by_length = np.argsort(split.tokens.lengths, kind="stable")
    places = np.linspace(0, (len(split) - 1) // 2, min(ROWS, len(split)))
    return by_length[places.astype(np.int64)]


def _zeros(model: nn.Module, tokenizer: Any) -> list[str]:
    """Token types, where Transformers would pass them on: the token store leaves out zeros."""
    name = "token_type_ids"
    taken = name in tokenizer.model_input_names and name in signature(model.forward).parameters
    return [name] if taken else []


@contextmanager
def _named(what: str, path: Path, hint: str) -> Iterator[None]:
    """Turn an error of a family's own code, which may be any, into one that names the family."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        problem = f"the {what} cannot be run on the first texts: {type(error).__name__}: {said}"
        raise ModelUnavailable(Issue(problem, file=str(path), hint=hint)) from error
