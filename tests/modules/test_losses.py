import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.balancing import Sum
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.modules import CosineHead, LinearHead
from mtl.modules.losses import LossName, loss_of
from mtl.regularizers import SMART
from mtl.tasks import Source, Task
from tests.balancing.test_surgery import made, mixed

GRADES = Task(name="grades", texts=["text"], classes=list("abcde"), source=Source(path="."))
NEAR = Task(name="near", texts=["first", "second"], range=(0.0, 5.0), source=Source(path="."))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_ordinal_asks_of_each_threshold_whether_the_class_is_above() -> None:
    loss = loss_of(GRADES, "ordinal")
    assert loss.size == 4
    logits = [2.0, 0.5, -1.0, -3.0]
    expected = (
        -sum(math.log(sigmoid(z) if k < 2 else 1 - sigmoid(z)) for k, z in enumerate(logits)) / 4
    )
    assert float(loss.of_rows(torch.tensor([logits]), torch.tensor([2]))) == pytest.approx(
        expected, rel=1e-5
    )
    above = [1.0, *map(sigmoid, logits), 0.0]
    shares = [above[k] - above[k + 1] for k in range(5)]
    assert loss.outputs(torch.tensor([logits]))[0].tolist() == pytest.approx(shares, rel=1e-5)


def test_thresholds_in_disorder_still_give_probabilities() -> None:
    found = loss_of(GRADES, "ordinal").outputs(torch.randn(50, 4) * 5)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(1), torch.ones(50))


def test_binary_is_the_courses_mean_of_binary_entropies() -> None:
    loss = loss_of(GRADES, "binary")
    logits, label = [0.3, -0.2, 1.0, 0.0, 2.0], 4
    terms = [
        -math.log(sigmoid(z)) if k == label else -math.log(1 - sigmoid(z))
        for k, z in enumerate(logits)
    ]
    assert float(loss.of_rows(torch.tensor([logits]), torch.tensor([label]))) == pytest.approx(
        sum(terms) / 5, rel=1e-5
    )
    assert loss.outputs(torch.tensor([logits])).argmax().item() == 4


def test_both_train_both_heads_and_the_class_is_that_of_the_sum() -> None:
    loss = loss_of(GRADES, "cross_entropy_binary")
    assert loss.size == 10
    logits = torch.randn(3, 10, requires_grad=True)
    labels = torch.tensor([0, 3, 4])
    found = loss.of_rows(logits, labels)
    one, two = logits[:, :5], logits[:, 5:]
    expected = F.cross_entropy(one, labels, reduction="none")
    expected = expected + F.binary_cross_entropy_with_logits(
        two, F.one_hot(labels, 5).float(), reduction="none"
    ).mean(1)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert (gradient != 0).all()
    assert torch.equal(loss.outputs(logits).argmax(1), (one + two).argmax(1))


@pytest.mark.parametrize(
    "name", ["cross_entropy", "ordinal", "binary", "cross_entropy_ordinal", "cross_entropy_binary"]
)
def test_an_unknown_class_costs_nothing_and_divergence_is_none_from_itself(name: LossName) -> None:
    loss = loss_of(GRADES, name)
    logits = torch.randn(4, loss.size)
    rows = loss.of_rows(logits, torch.tensor([-1, 0, 4, -1]))
    assert rows[0] == rows[3] == 0
    assert rows[1] > 0 < rows[2]
    assert loss.divergences(logits, logits).abs().max() < 1e-6
    assert (loss.divergences(logits, torch.randn(4, loss.size)) > 0).all()


def bernoulli(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_yes_and_no_diverge_as_bernoulli_distributions() -> None:
    one, two = torch.tensor([[0.5, -1.0, 2.0, 0.1]]), torch.tensor([[0.0, -2.0, 1.0, 0.4]])
    pairs = zip(one[0].tolist(), two[0].tolist(), strict=True)
    expected = sum(bernoulli(sigmoid(a), sigmoid(b)) for a, b in pairs) / 4
    assert float(loss_of(GRADES, "ordinal").divergences(one, two)) == pytest.approx(
        expected, rel=1e-4
    )


def mean_of(states: Tensor, places: list[int]) -> Tensor:
    return torch.stack([states[place] for place in places]).mean(0)


def test_the_cosine_is_that_of_the_two_texts_mean_states() -> None:
    states = torch.randn(1, 7, 8)
    first, second = torch.zeros(2, 1, 7, dtype=torch.bool)
    first[0, 1:3], second[0, 4:6] = True, True
    one, two = mean_of(states[0], [1, 2]), mean_of(states[0], [4, 5])
    cosine = float(one @ two / one.norm() / two.norm())
    assert float(CosineHead(0.0, 5.0)(states, first, second)) == pytest.approx(
        2.5 * (cosine + 1), rel=1e-5
    )


def test_methods_take_losses_by_task(tasks: list[Task], backbone: str) -> None:
    method = MultiHead(
        tasks=tasks,
        backbone=backbone,
        losses={"same": "ordinal", "near": "cosine"},
        hidden_layers=2,
    )
    assert isinstance(method.heads["near"], CosineHead)
    linears = [part for part in method.heads["same"].modules() if isinstance(part, torch.nn.Linear)]
    assert [part.out_features for part in linears] == [32, 32, 2]
    assert isinstance(method.heads["mood"], LinearHead)


def test_smoothness_works_with_every_loss(backbone: str) -> None:
    smart = SMART(noise=0.1, proximal=0.0)
    losses = {"mood": "binary", "same": "cross_entropy_ordinal"}
    method: Any = made(MultiHead, backbone, Sum(), regularizer=smart, losses=losses)
    smart.on_fit_start(method)
    sum(method.task_losses(mixed()).values()).backward()
    assert all(value > 0 for value in method.added.values())


def test_what_does_not_fit_is_refused(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(
        UserError,
        match="'ordinal' is not for 'near', a regression; choose from squared_error, cosine",
    ):
        loss_of(NEAR, "ordinal")
    with pytest.raises(
        UserError, match="losses: 'sam' is none of the tasks .* Did you mean 'same'"
    ):
        MultiHead(tasks=tasks, backbone=backbone, losses={"sam": "ordinal"})
