import math

import torch
from torch import nn
from torch.nn import functional as F

from mtl.modules.domains import DomainClassifier, DomainCorruption, GradientReversal, evenly_spaced


def test_the_corruption_loss_equals_the_formula_with_the_same_permutations() -> None:
    head = DomainCorruption(width=6, domains=3)
    nn.init.normal_(head.classifier.weight)
    means, domains = torch.randn(5, 2, 6), torch.tensor([0, 1, 2, 1, 0])
    torch.manual_seed(3)
    losses = head(means, domains)
    torch.manual_seed(3)
    expected = torch.zeros(5)
    for layer in range(2):
        corrupted = domains[torch.randperm(5)]
        for example in range(5):
            state = means[example, layer] + head.domains.weight[domains[example]]
            logits = head.classifier.weight @ state + head.classifier.bias
            expected[example] += F.cross_entropy(logits, corrupted[example]) / 2
    torch.testing.assert_close(losses, expected)


def test_a_batch_of_one_domain_gets_uniform_labels() -> None:
    torch.manual_seed(0)
    head, domains = DomainCorruption(width=8, domains=3), torch.full((3000,), 1)
    means = torch.randn(3000, 1, 8)
    shares = torch.tensor([3.0, 2.0, 1.0])
    nn.init.zeros_(head.classifier.weight)
    head.classifier.bias.data = shares.log()
    expected = -(shares / 6).log().mean()  # uniform labels
    assert abs(head(means, domains, several=False).mean() - expected) < 0.03


def test_the_corruption_loss_starts_at_chance_level() -> None:
    torch.manual_seed(0)
    losses = DomainCorruption(width=64, domains=4)(torch.randn(200, 4, 64), torch.arange(200) % 4)
    assert abs(losses.mean().item() - math.log(4)) < 0.05


def test_the_gradient_is_reversed_and_scaled() -> None:
    values = torch.randn(4, requires_grad=True)
    (GradientReversal.apply(values, 0.3) * torch.arange(4.0)).sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, -0.3 * torch.arange(4.0))


def test_the_classifier_itself_gets_the_ordinary_gradient() -> None:
    torch.manual_seed(0)
    head, vectors, domains = (
        DomainClassifier(4, 2, dropout=0),
        torch.randn(6, 4),
        torch.tensor([0, 1, 0, 1, 0, 1]),
    )
    head(vectors, domains, 1.0).mean().backward()
    last = head.head[-1]
    assert isinstance(last, nn.Linear)
    gradient = last.weight.grad
    assert gradient is not None
    expected = torch.autograd.grad(F.cross_entropy(head.head(vectors), domains), last.weight)[0]
    torch.testing.assert_close(gradient, expected)


def test_the_layers_of_a_base_encoder_are_the_published_ones() -> None:
    assert evenly_spaced(12) == [2, 5, 8, 11]
    assert evenly_spaced(24) == [5, 11, 17, 23]
