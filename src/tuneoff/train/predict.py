"""Probabilities for the rows of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from tuneoff.data.batches import batch, by_tokens
from tuneoff.data.task import Split
from tuneoff.model.packed import Classifier


@torch.inference_mode()
def predict(
    classifier: Classifier,
    split: Split,
    device: torch.device,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> npt.NDArray[np.float32]:
    """(rows, labels) probabilities in the order of the split's rows.

    `budget`: tokens per forward pass at the most. `progress` is told the rows done, and all.
    """
    classifier.eval()
    rows = np.arange(len(split))
    pieces: list[tuple[npt.NDArray[np.int64], torch.Tensor]] = []
    done = 0
    for piece in by_tokens(split.tokens.lengths, rows, budget):
        inputs = batch(split, piece)
        pieces.append((inputs.rows, classifier(inputs.to(device)).softmax(-1)))
        done += len(piece)
        progress(done, len(rows))
    result = np.empty((len(rows), pieces[0][1].shape[1]), np.float32)
    for order, probabilities in pieces:  # read at the end: a device is not waited for in between
        result[order] = probabilities.cpu().numpy()
    return result
