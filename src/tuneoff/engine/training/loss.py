"""The loss: cross-entropy, plain, smoothed or focal, weighted by class and by row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tuneoff.config import ClassWeights
from tuneoff.exceptions import BadInput, nearest


class Loss:
    """Weighted loss: sum of w * loss over sum of w, over a whole optimizer step.

    A row's weight is its own times its class's. The sum of weights belongs to the step, so that a
    step computed in pieces, or on several devices, has the gradient of the whole.

    `smoothing` is the share of the label that is spread over all labels (Szegedy et al. 2016).
    With `focal` = gamma a row's loss is multiplied by (1 - p) ** gamma, p being the probability of
    its label (Lin et al. 2017); None: not at all.
    """

    def __init__(
        self,
        class_weights: Tensor | None,
        device: torch.device,
        *,
        smoothing: float = 0.0,
        focal: float | None = None,
    ) -> None:
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self._smoothing = smoothing
        self._focal = focal

    def weights(self, labels: Tensor, weights: Tensor) -> Tensor:
        """(texts,) what each row weighs."""
        return weights if self.class_weights is None else weights * self.class_weights[labels]

    def __call__(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of the rows' losses: a scalar."""
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self._smoothing)
        if self._focal is not None:
            missed = 1 - logits.softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
            # The slope of 0 ** gamma is infinite below gamma 1: a row that is certain has none.
            losses = losses * missed.clamp_min(torch.finfo(missed.dtype).tiny) ** self._focal
        return torch.dot(losses, self.weights(labels, weights))


def class_weights(
    asked: ClassWeights, labels: list[str], train_labels: npt.NDArray[np.int64]
) -> Tensor | None:
    """(labels,) float32, or None where all weigh alike.

    "balanced" is rows / (labels * rows of the label), as in scikit-learn. A mapping must name
    labels of the study (`BadInput` otherwise); labels it does not name weigh 1.
    """
    if asked == "none":
        return None
    if asked == "balanced":
        # A label without training rows has a weight that nothing reads.
        counts = np.bincount(train_labels, minlength=len(labels)).clip(min=1)
        return torch.tensor(len(train_labels) / (len(labels) * counts), dtype=torch.float32)
    unknown = sorted(set(asked) - set(labels))
    if unknown:
        raise BadInput(
            f"class_weights names {unknown[0]!r}, which is no label of the data.",
            hint=nearest(unknown[0], labels),
        )
    return torch.tensor([asked.get(label, 1.0) for label in labels], dtype=torch.float32)
