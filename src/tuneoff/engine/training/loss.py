"""Cross-entropy loss with label smoothing or focal loss, weighted by class and by row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tuneoff.config import ClassWeights
from tuneoff.exceptions import BadInput, nearest


class Loss:
    """Weighted mean loss of an optimizer step, sum(w * loss) / sum(w).

    The weight w of a row is its own weight times that of its class. `weights` computes it, and
    calling the loss the numerator. The caller divides the weights by their sum over the whole step
    in between, so that a step in several pieces has the same gradient.

    Args:
        class_weights: (labels,) weights of the classes on the CPU, where batches are built; None if
            all are 1.
        smoothing: Probability mass of the label that is distributed over all labels (label
            smoothing, Szegedy et al. 2016).
        focal: Exponent gamma of the focal loss (Lin et al. 2017): the loss of a row is multiplied
            by (1 - p) ** gamma, where p is the predicted probability of its label. None: no factor.
    """

    def __init__(
        self,
        class_weights: Tensor | None,
        *,
        smoothing: float = 0.0,
        focal: float | None = None,
    ) -> None:
        self.class_weights = class_weights
        self._smoothing = smoothing
        self._focal = focal

    def weights(self, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the weight of each row, (texts,), including that of its class."""
        return weights if self.class_weights is None else weights * self.class_weights[labels]

    def __call__(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the losses of the rows, a scalar.

        `weights` (texts,) are those of `weights`, which include the weights of the classes.
        """
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self._smoothing)
        if self._focal is not None:
            others = 1 - logits.softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
            # For gamma < 1, the derivative of 0 ** gamma is infinite (certain predictions).
            losses = losses * others.clamp_min(torch.finfo(others.dtype).tiny) ** self._focal
        return torch.dot(losses, weights)


def class_weights(
    asked: ClassWeights, labels: list[str], train_labels: npt.NDArray[np.int64]
) -> Tensor | None:
    """Return the weights of the classes.

    Args:
        asked: "none", "balanced" for rows / (labels * rows of the label) as in scikit-learn, or a
            mapping from label to weight, where other labels have a weight of 1.
        labels: The study's labels.
        train_labels: (rows,) indices of the labels of the training rows.

    Returns:
        (labels,) float32, or None for "none".

    Raises:
        BadInput: The mapping names an unknown label.
    """
    if asked == "none":
        return None
    if asked == "balanced":
        # The weight of a label without training rows is not used.
        counts = np.bincount(train_labels, minlength=len(labels)).clip(min=1)
        return torch.tensor(len(train_labels) / (len(labels) * counts), dtype=torch.float32)
    unknown = sorted(set(asked) - set(labels))
    if unknown:
        raise BadInput(
            f"class_weights: {unknown[0]!r} is not a label of the data",
            hint=nearest(unknown[0], labels),
        )
    return torch.tensor([asked.get(label, 1.0) for label in labels], dtype=torch.float32)
