"""Check before training: a model's weights, tokenizer and forward pass are what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tuneoff.data.batches import batch
from tuneoff.data.task import Split
from tuneoff.data.tokenizer import load_tokenizer
from tuneoff.errors import BadInput, Fault, ModelUnavailable
from tuneoff.model.contract import plain_logits
from tuneoff.model.load import pretrained
from tuneoff.model.packed import Classifier, choose_padding
from tuneoff.model.padding import TOLERANCE
from tuneoff.record import Difference

ROWS = 3
"""Texts of the mixed batch, from the shortest to the median."""

OTHER = "Take a model of another family; docs/conformance.md lists those that are tested."


def check_model(
    path: Path, labels: Sequence[str], split: Split, *, quantized: bool, device: torch.device
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
        device: Device of a quantised model; others are checked on the CPU.

    Raises:
        BadInput: The tokenizer is incomplete or does not belong to the model, weights of the body
            are missing, unused or of another shape, or the logits differ by more than rounding.
    """
    from transformers import AutoConfig

    load_tokenizer(path)
    kind = f"{AutoConfig.from_pretrained(path, trust_remote_code=False).model_type} model"
    try:
        found = _difference(path, labels, split, quantized, device)
    except BadInput:
        raise
    except Exception as error:  # of a family's own code, which may raise anything
        said = (str(error).strip().splitlines() or [""])[0][:300]
        problem = f"the {kind} cannot be run on the first texts: {type(error).__name__}: {said}"
        raise ModelUnavailable(Fault(problem, file=str(path), mend=OTHER)) from error
    if not found.passed:
        problem = (
            f"tuneoff's forward pass of the {kind} gives other logits than Transformers': they"
            f" differ by {found.logits:.3g} of their spread, where rounding explains"
            f" {found.tolerance:g}"
        )
        raise ModelUnavailable(Fault(problem, file=str(path), mend=OTHER))


@torch.no_grad()
def _difference(
    path: Path, labels: Sequence[str], split: Split, quantized: bool, device: torch.device
) -> Difference:
    """Between a few texts alone in Transformers and the same texts together in tuneoff."""
    tolerance = TOLERANCE["bf16" if quantized else "fp32"]
    model, architecture = pretrained(
        path, labels, quantized=quantized, dtype=torch.float32, device=device
    )
    by_length = np.argsort(split.tokens.lengths, kind="stable")
    rows = by_length[np.linspace(0, (len(split) - 1) // 2, min(ROWS, len(split))).astype(np.int64)]
    plain = plain_logits(model.eval(), split, rows)  # first: the classifier changes the model
    padding = choose_padding(model, architecture, quantized=quantized)
    classifier = Classifier(model, architecture, padding).eval()
    return Difference.between(classifier(batch(split, rows).to(model.device)), plain, tolerance)
