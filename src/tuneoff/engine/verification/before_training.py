"""Checks of a model before training: weights, tokenizer and forward pass."""

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
"""Number of texts in the mixed batch, from the shortest text to that of median length."""

OTHER = "Choose a model of another family; docs/conformance.md lists the tested ones."


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
    """Load the model in `path` as a run does, and compare its logits with those of Transformers.

    The reference is the forward pass of Transformers for single texts. It is compared with the
    logits of the same texts by tuneoff's forward pass, in a batch of different lengths.

    Args:
        path: Folder of the model and its tokenizer.
        labels: The task's labels.
        split: Split with the texts.
        quantized: Whether to load the body in 4 bits. This is for studies in which all runs do so,
            because the full model might not fit into memory.
        device: Device of the runs. Only a quantised model is checked on a GPU.
        precision: Precision of the runs. The model must run in it, too.

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
        # Transformers comes first, because `Classifier` changes the model.
        plain = plain_logits(model.eval(), split, rows, _zeros(model, tokenizer))
        padding = choose_padding(
            model, architecture, DTYPES[precision] if quantized else torch.float32
        )
        classifier = Classifier(model, architecture, padding).eval()
        inputs = batch(split, rows).to(model.device)
        tolerance = TOLERANCE["bf16" if quantized else "fp32"]
        difference = LogitDifference.between(classifier(inputs), plain, tolerance)
    if not torch.as_tensor(plain).isfinite().all():
        raise ModelUnavailable(_not_finite(path, model))
    if not difference.passed:
        problem = (
            f"tuneoff cannot run the {kind} correctly: its logits differ from those of Transformers"
            f" by {difference.logits:.3g} standard deviations, where rounding explains"
            f" {difference.tolerance:g}"
        )
        raise ModelUnavailable(Issue(problem, file=str(path), hint=OTHER))
    if not quantized and device.type == "cpu" and precision != "fp32":
        with _named(f"{kind} in {precision}", path, "Set precision to fp32 (--precision fp32)."):
            lower(model, architecture, DTYPES[precision])
            classifier(inputs)


def _not_finite(path: Path, model: nn.Module) -> Issue:
    """Return the issue of a model whose logits are not finite."""
    names = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    problem = (
        f"weights are NaN or infinite: {', '.join(names[:3])}"
        if names
        else "the logits are NaN or infinite"
    )
    hint = "Download the file again, or save the model of a training that did not diverge."
    return Issue(problem, file=str(path), hint=hint)


def _rows(split: Split) -> npt.NDArray[np.int64]:
    by_length = np.argsort(split.tokens.lengths, kind="stable")
    ranks = np.linspace(0, (len(split) - 1) // 2, min(ROWS, len(split)))
    return by_length[ranks.astype(np.int64)]


def _zeros(model: nn.Module, tokenizer: Any) -> list[str]:
    """Return the names of inputs that Transformers would pass but the token store omits if zero.

    These are the token types.
    """
    name = "token_type_ids"
    is_used = name in tokenizer.model_input_names and name in signature(model.forward).parameters
    return [name] if is_used else []


@contextmanager
def _named(what: str, path: Path, hint: str) -> Iterator[None]:
    """Convert any error of a model family's code to one that names the family."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        message = (str(error).strip().splitlines() or [""])[0][:300]
        problem = f"the {what} cannot be run on the first texts: {type(error).__name__}: {message}"
        raise ModelUnavailable(Issue(problem, file=str(path), hint=hint)) from error
