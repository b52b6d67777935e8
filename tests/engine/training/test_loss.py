"""Loss functions and class weights, compared with reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from tuneoff.engine.training.loss import Loss, class_weights
from tuneoff.exceptions import BadInput

LABELS = ["cat", "dog", "bird"]


def test_balanced_weights_equal_scikit_learn() -> None:
    rows = np.array([0] * 7 + [1] * 2 + [2])
    found = class_weights("balanced", LABELS, rows)
    assert found is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=rows)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_balanced_weights_without_training_rows_of_a_label() -> None:
    found = class_weights("balanced", LABELS, np.array([0, 0, 2]))
    assert found is not None
    assert found.isfinite().all()


def test_no_class_weights() -> None:
    assert class_weights("none", LABELS, np.array([0, 1])) is None


def test_weights_by_label() -> None:
    found = class_weights({"bird": 2.5, "cat": 0.0}, LABELS, np.array([0]))
    assert found is not None
    assert found.tolist() == [0.0, 1.0, 2.5]


def test_unknown_label_suggests_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"'brid'.*\n.*'bird'"):
        class_weights({"brid": 2.0}, LABELS, np.array([0]))


def test_mean_loss_equals_pytorch() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    by_class = torch.tensor([1.0, 3.0, 0.5])
    loss = Loss(by_class)
    weights = loss.weights(labels, torch.ones(8))
    mean = loss(logits, labels, weights / weights.sum())
    torch.testing.assert_close(mean, F.cross_entropy(logits, labels, weight=by_class))


def test_row_of_weight_two_counts_twice() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    loss = Loss(None)
    once = loss(logits, labels, torch.tensor([1.0, 2.0, 1.0, 0.0]))
    twice = loss(logits[[0, 1, 1, 2]], labels[[0, 1, 1, 2]], torch.ones(4))
    torch.testing.assert_close(once, twice)


def test_smoothing_and_focal_loss_examples() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.4, 0.3]])
    labels, rows = torch.tensor([0, 2]), torch.tensor([1.0, 3.0])
    log_p = logits.log_softmax(-1)
    own = log_p[torch.arange(2), labels]

    smoothed = -(0.7 * own + 0.3 * log_p.mean(-1))
    found = Loss(None, smoothing=0.3)(logits, labels, rows)
    torch.testing.assert_close(found, (smoothed * rows).sum())

    focal = -((1 - own.exp()) ** 2) * own
    found = Loss(None, focal=2.0)(logits, labels, rows)
    torch.testing.assert_close(found, (focal * rows).sum())
    plain = Loss(None, focal=0.0)(logits, labels, rows)
    torch.testing.assert_close(plain, -(own * rows).sum())


def test_focal_loss_of_a_certain_row_has_a_finite_gradient() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    Loss(None, focal=0.5)(logits, torch.tensor([0]), torch.ones(1)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
