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
    return _outputs(classifier, split, device, lambda x: x.softmax(-1), progress, size)


@torch.inference_mode()
def logits(
    classifier: Classifier,
    split: Split,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, rows: None,
) -> npt.NDArray[np.float32]:
    """Return the (rows, labels) logits in the order of the split's rows; as `predict` otherwise."""
    return _outputs(classifier, split, device, lambda x: x.float(), progress, None)


def _outputs(
    classifier: Classifier,
    split: Split,
    device: torch.device,
    output: Callable[[torch.Tensor], torch.Tensor],
    progress: Callable[[int, int], None],
    size: PassSize | None,
) -> npt.NDArray[np.float32]:
    """Return `output` of the logits of all rows, (rows, labels)."""
    classifier.eval()
    size = size or PassSize(inference_tokens(device))
    rows = np.arange(len(split))
    pieces: list[tuple[Rows, torch.Tensor]] = []
    done = 0

    def run(piece: Rows) -> tuple[Rows, torch.Tensor]:
        inputs = batch(split, piece)
        return inputs.rows, output(classifier(inputs.to(device)))

    for order, found in size.over(split.tokens.lengths, rows, run):
        pieces.append((order, found))
        done += len(order)
        progress(done, len(rows))
    result = np.empty((len(rows), pieces[0][1].shape[1]), np.float32)
    for order, found in pieces:  # copied at the end, to wait for the device once
        result[order] = found.cpu().numpy()
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
