import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl.balancing import Sum
from mtl.errors import UserError
from mtl.methods import MultiHead, Separate
from mtl.modules.heads import Linear, LinearHead
from mtl.modules.loss_options import LossName
from mtl.modules.pair_heads import CosineHead
from mtl.modules.task_losses import make_loss
from mtl.regularizers import SMART
from mtl.tasks import Source, Task
from tests.balancing.helpers import make_method, mixed_batch

GRADES = Task(name="grades", texts=["text"], classes=list("abcde"), source=Source(path="."))
NEAR = Task(name="near", texts=["first", "second"], range=(0.0, 5.0), source=Source(path="."))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_ordinal_has_one_binary_logit_per_threshold() -> None:
    loss = make_loss(GRADES, "ordinal")
    assert loss.size == 4
    logits = [2.0, 0.5, -1.0, -3.0]
    expected = (
        -sum(math.log(sigmoid(z) if k < 2 else 1 - sigmoid(z)) for k, z in enumerate(logits)) / 4
    )
    assert float(loss.example_losses(torch.tensor([logits]), torch.tensor([2]))) == pytest.approx(
        expected, rel=1e-5
    )
    above = [1.0, *map(sigmoid, logits), 0.0]
    shares = [above[k] - above[k + 1] for k in range(5)]
    assert loss.outputs(torch.tensor([logits]))[0].tolist() == pytest.approx(shares, rel=1e-5)


def test_unordered_thresholds_still_give_probabilities() -> None:
    outputs = make_loss(GRADES, "ordinal").outputs(torch.randn(50, 4) * 5)
    assert (outputs >= 0).all()
    torch.testing.assert_close(outputs.sum(1), torch.ones(50))


def test_binary_is_the_mean_of_binary_cross_entropies() -> None:
    loss = make_loss(GRADES, "binary")
    logits, label = [0.3, -0.2, 1.0, 0.0, 2.0], 4
    terms = [
        -math.log(sigmoid(z)) if k == label else -math.log(1 - sigmoid(z))
        for k, z in enumerate(logits)
    ]
    assert float(
        loss.example_losses(torch.tensor([logits]), torch.tensor([label]))
    ) == pytest.approx(sum(terms) / 5, rel=1e-5)
    assert loss.outputs(torch.tensor([logits])).argmax().item() == 4


def test_both_losses_are_trained_and_their_logits_are_added_for_the_prediction() -> None:
    loss = make_loss(GRADES, "cross_entropy_binary")
    assert loss.size == 10
    logits = torch.randn(3, 10, requires_grad=True)
    labels = torch.tensor([0, 3, 4])
    losses = loss.example_losses(logits, labels)
    one, two = logits[:, :5], logits[:, 5:]
    expected = F.cross_entropy(one, labels, reduction="none")
    expected = expected + F.binary_cross_entropy_with_logits(
        two, F.one_hot(labels, 5).float(), reduction="none"
    ).mean(1)
    torch.testing.assert_close(losses, expected)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert (gradient != 0).all()
    assert torch.equal(loss.outputs(logits).argmax(1), (one + two).argmax(1))


@pytest.mark.parametrize(
    "name", ["cross_entropy", "ordinal", "binary", "cross_entropy_ordinal", "cross_entropy_binary"]
)
def test_an_unlabelled_example_has_loss_0_and_equal_logits_have_divergence_0(
    name: LossName,
) -> None:
    loss = make_loss(GRADES, name)
    logits = torch.randn(4, loss.size)
    losses = loss.example_losses(logits, torch.tensor([-1, 0, 4, -1]))
    assert losses[0] == losses[3] == 0
    assert losses[1] > 0 < losses[2]
    assert loss.divergences(logits, logits).abs().max() < 1e-6
    assert (loss.divergences(logits, torch.randn(4, loss.size)) > 0).all()


def bernoulli(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_binary_logits_diverge_as_bernoulli_distributions() -> None:
    one, two = torch.tensor([[0.5, -1.0, 2.0, 0.1]]), torch.tensor([[0.0, -2.0, 1.0, 0.4]])
    pairs = zip(one[0].tolist(), two[0].tolist(), strict=True)
    expected = sum(bernoulli(sigmoid(a), sigmoid(b)) for a, b in pairs) / 4
    assert float(make_loss(GRADES, "ordinal").divergences(one, two)) == pytest.approx(
        expected, rel=1e-4
    )


def mean_of(states: Tensor, tokens: list[int]) -> Tensor:
    return torch.stack([states[token] for token in tokens]).mean(0)


def test_the_cosine_head_compares_the_mean_states_of_the_two_texts() -> None:
    states = torch.randn(1, 7, 8)
    first, second = torch.zeros(2, 1, 7, dtype=torch.bool)
    first[0, 1:3], second[0, 4:6] = True, True
    one, two = mean_of(states[0], [1, 2]), mean_of(states[0], [4, 5])
    cosine = float(one @ two / one.norm() / two.norm())
    assert float(CosineHead(0.0, 5.0)(states, first, second)) == pytest.approx(
        2.5 * (cosine + 1), rel=1e-5
    )


def test_each_task_can_have_its_own_loss(tasks: list[Task], backbone: str) -> None:
    method = MultiHead(
        tasks=tasks,
        backbone=backbone,
        losses={"same": "ordinal", "near": "cosine"},
        head=Linear(hidden_layers=2),
    )
    assert isinstance(method.heads["near"], CosineHead)
    modules = method.heads["same"].modules()
    linears = [each for each in modules if isinstance(each, torch.nn.Linear)]
    assert [each.out_features for each in linears] == [32, 32, 2]
    assert isinstance(method.heads["mood"], LinearHead)


def test_smart_works_with_every_loss(backbone: str) -> None:
    smart = SMART(noise=0.1, proximal=0.0)
    losses = {"mood": "binary", "same": "cross_entropy_ordinal"}
    method: Any = make_method(MultiHead, backbone, Sum(), regularizer=smart, losses=losses)
    smart.on_fit_start(method, {})
    sum(method.task_losses(mixed_batch()).values()).backward()
    assert all(value > 0 for value in method.regularizer_losses.values())


def test_unsupported_losses_are_rejected(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(
        UserError,
        match="losses: 'ordinal' cannot be trained for 'near', a regression task. "
        "Choose from: squared_error, cosine",
    ):
        make_loss(NEAR, "ordinal")
    with pytest.raises(UserError, match="losses: unknown task 'sam'.* Did you mean 'same'"):
        MultiHead(tasks=tasks, backbone=backbone, losses={"sam": "ordinal"})


def test_the_cosine_loss_needs_a_pair_and_a_method_with_its_head(
    tasks: list[Task], backbone: str
) -> None:
    single = Task(name="near", texts=["text"], range=(0.0, 5.0), source=Source(path="."))
    with pytest.raises(UserError, match="compares the two texts of a pair, but 'near' has one"):
        make_loss(single, "cosine")
    with pytest.raises(UserError, match="losses: near: Separate does not support 'cosine'"):
        Separate(tasks=tasks, backbone=backbone, losses={"near": "cosine"})
