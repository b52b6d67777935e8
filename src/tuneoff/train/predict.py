"""Probabilities for the rows of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from tuneoff.data.batches import batch, by_tokens, inference_tokens
from tuneoff.data.task import Split
from tuneoff.model.packed import Classifier


@torch.inference_mode()
def predict(
    classifier: Classifier,
    split: Split,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> npt.NDArray[np.float32]:
    """(rows, labels) probabilities in the order of the split's rows.

    `progress` is told the rows done, and all.
    """
    classifier.eval()
    rows = np.arange(len(split))
    pieces: list[tuple[npt.NDArray[np.int64], torch.Tensor]] = []
    done = 0
    for piece in by_tokens(split.tokens.lengths, rows, inference_tokens(device)):
        inputs = batch(split, piece)
        pieces.append((inputs.rows, classifier(inputs.to(device)).softmax(-1)))
        done += len(piece)
        progress(done, len(rows))
    result = np.empty((len(rows), pieces[0][1].shape[1]), np.float32)
    for order, probabilities in pieces:  # read at the end: a device is not waited for in between
        result[order] = probabilities.cpu().numpy()
    return result


@torch.inference_mode()
def answer_one(
    classifier: Classifier, split: Split, row: int, device: torch.device
) -> npt.NDArray[np.float32]:
    """(labels,) probabilities for the one row at this position of `split`.

    Returns when the answer has left the device. From tokens at hand; the batch is built anew.
    """
    classifier.eval()
    inputs = batch(split, np.array([row]))
    answer: npt.NDArray[np.float32] = classifier(inputs.to(device)).softmax(-1)[0].cpu().numpy()
    return answer
