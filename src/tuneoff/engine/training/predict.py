"""Predicted probabilities for the rows of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from tuneoff.engine.data.batches import batch, inference_tokens
from tuneoff.engine.data.task import Split
from tuneoff.engine.kernels.packed_forward import Classifier
from tuneoff.engine.model.out_of_memory import PassSize

Rows = npt.NDArray[np.int64]


@torch.inference_mode()
def predict(
    classifier: Classifier,
    split: Split,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, rows: None,
    size: PassSize | None = None,
) -> npt.NDArray[np.float32]:
    """Predict all rows of a split.

    Args:
        classifier: The model; it is left in evaluation mode.
        split: The rows to predict.
        device: Device of the model.
        progress: Called after each forward pass with the number of rows done and of all rows.
        size: Tokens per forward pass, halved if memory runs out; by default that of the device.

    Returns:
        Probabilities (rows, labels) in the order of the split's rows.
    """
    classifier.eval()
    size = size or PassSize(inference_tokens(device))
    rows = np.arange(len(split))
    pieces: list[tuple[Rows, torch.Tensor]] = []
    done = 0

    def answers(piece: Rows) -> tuple[Rows, torch.Tensor]:
        inputs = batch(split, piece)
        return inputs.rows, classifier(inputs.to(device)).softmax(-1)

    for order, probabilities in size.over(split.tokens.lengths, rows, answers):
        pieces.append((order, probabilities))
        done += len(order)
        progress(done, len(rows))
    result = np.empty((len(rows), pieces[0][1].shape[1]), np.float32)
    for order, probabilities in pieces:  # copied at the end, to wait for the device once
        result[order] = probabilities.cpu().numpy()
    return result


@torch.inference_mode()
def answer_one(
    classifier: Classifier, split: Split, row: int, device: torch.device
) -> npt.NDArray[np.float32]:
    """Return the probabilities (labels,) of the row at this position of `split`.

    The result is on the CPU. The time of a call includes building the batch, not tokenising.
    """
    classifier.eval()
    inputs = batch(split, np.array([row]))
    answer: npt.NDArray[np.float32] = classifier(inputs.to(device)).softmax(-1)[0].cpu().numpy()
    return answer
