"""Losses for rare classes: weights by class, label smoothing, focal loss; multi-label losses."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from mtl.errors import UserError
from mtl.modules.loss_options import LossOptions, class_weights
from mtl.modules.task_losses import make_loss
from mtl.modules.thresholds import Thresholds
from mtl.tasks import Task

THREE = Task("t", ["a"], classes=["x", "y", "z"])
TAGS = Task("t", ["a"], labels="tags", classes=["x", "y", "z"], thresholds="tuned")
NUMBER = Task("t", ["a"], range=(0, 5))
LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
LABELS = torch.tensor([0, 1, 2, 0, 0, 1, -1])
SETS = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1]])
SETS = SETS.double()


def test_balanced_weights_are_those_of_sklearn() -> None:
    balanced = LossOptions(class_weights="balanced")
    labels = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert class_weights(THREE, balanced, labels) == pytest.approx(expected)
    sets = SETS.numpy()
    weights = class_weights(TAGS, balanced, sets)
    assert weights == pytest.approx((len(sets) - sets.sum(0)) / sets.sum(0))
    named = LossOptions(class_weights={"z": 3.0})
    assert class_weights(THREE, named, labels) == pytest.approx([1, 1, 3])
    with pytest.raises(UserError, match="there are none of 'z'"):
        class_weights(THREE, balanced, np.array([0, 1]))


def test_weighted_and_smoothed_losses_equal_torch() -> None:
    weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.double)
    options: dict[str, Any] = {"ignore_index": -1, "reduction": "none"}
    found = make_loss(THREE).weighted_losses(LOGITS, LABELS, weights)
    assert torch.allclose(found, F.cross_entropy(LOGITS, LABELS, weights, **options))
    found = make_loss(TAGS).weighted_losses(LOGITS, SETS, weights)
    expected = F.binary_cross_entropy_with_logits(
        LOGITS, SETS, pos_weight=weights, reduction="none"
    )
    assert torch.allclose(found, expected.mean(1))
    found = make_loss(THREE, LossOptions(label_smoothing=0.2)).example_losses(LOGITS, LABELS)
    assert torch.allclose(found, F.cross_entropy(LOGITS, LABELS, label_smoothing=0.2, **options))


def test_focal_losses_follow_the_formula() -> None:
    right = LOGITS.softmax(1).gather(1, LABELS.clamp(min=0)[:, None])[:, 0]
    expected = -((1 - right) ** 1.5) * right.log() * (LABELS >= 0)
    found = make_loss(THREE, LossOptions("focal", gamma=1.5)).example_losses(LOGITS, LABELS)
    assert torch.allclose(found, expected)
    right = torch.where(SETS > 0, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    expected = -((1 - right) ** 1.5) * right.log()
    found = make_loss(TAGS, LossOptions("focal", gamma=1.5)).example_losses(LOGITS, SETS)
    assert torch.allclose(found, expected.mean(1))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (THREE, torch.tensor([0, -1, 1])),
        (TAGS, torch.tensor([[0.0, 1, 1], [torch.nan] * 3, [1, 0, 0]])),
        (NUMBER, torch.tensor([1.0, torch.nan, 3.0])),
    ],
    ids=["classes", "several classes", "number"],
)
def test_an_example_without_label_has_no_loss_and_no_gradient(
    task: Task, labels: torch.Tensor
) -> None:
    for name in set(task.kind.losses) - {"cosine"}:
        loss = make_loss(task, LossOptions(name))  # type: ignore[arg-type]
        logits = torch.randn(3, loss.size, requires_grad=True)
        losses = loss.example_losses(logits, labels)
        losses.sum().backward()
        assert losses[1] == 0
        assert logits.grad is not None
        assert (logits.grad[1] == 0).all(), name
        assert (logits.grad[0] != 0).any(), name


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (NUMBER, LossOptions(class_weights="balanced"), "class_weights need classes"),
        (THREE, LossOptions(class_weights={"w": 2.0}), "unknown class 'w'"),
        (THREE, LossOptions("ordinal", label_smoothing=0.1), "does not apply to 'ordinal'"),
        (TAGS, LossOptions("cross_entropy"), "cannot be trained"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    task: Task, options: LossOptions, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(task, options)


def test_tuned_thresholds_have_the_best_f1_of_all_thresholds() -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = torch.rand(60, 3, generator=generator).round(decimals=1).clamp(0.01, 0.99)
    labels = (torch.rand(60, 3, generator=generator) < outputs * 0.6).float()
    thresholds = Thresholds([TAGS])
    change = thresholds.tune("t", outputs, labels)
    shifted = (outputs.double().logit() - change).sigmoid()

    def f1(predicted: torch.Tensor, true: torch.Tensor) -> float:
        return float(2 * (predicted * true).sum() / (predicted.sum() + true.sum()))

    for index in range(3):
        column, true = outputs[:, index], labels[:, index]
        best = max(f1((column >= each).float(), true) for each in column)
        assert f1((shifted[:, index] >= 0.5).float(), true) == pytest.approx(best)
    logits = outputs.logit()
    assert torch.allclose(thresholds.shifted("t", logits).sigmoid(), shifted.float(), atol=1e-5)
