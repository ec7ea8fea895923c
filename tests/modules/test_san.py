from typing import Any

import pytest
import torch

from mtl.modules import SAN
from tests.oracles import san as oracle

KINDS = ["mt_dnn", "mt_bert"]
TEXTS = [(4, 3), (1, 6), (5, 1)]  # tokens of premise and hypothesis


def rows(width: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States of the pairs, special tokens between and padding behind, and which positions are whose."""
    states = torch.randn(len(TEXTS), 11, width, generator=torch.Generator().manual_seed(0))
    first, second = torch.zeros(len(TEXTS), 11, dtype=torch.bool), torch.zeros(len(TEXTS), 11, dtype=torch.bool)
    for row, (p, q) in enumerate(TEXTS):
        first[row, 1 : 1 + p] = True
        second[row, 2 + p : 2 + p + q] = True
    return states, first, second


def head(kind: Any, **args: Any) -> SAN:
    torch.manual_seed(1)
    made = SAN(6, 3, kind=kind, **args)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 5])
def test_it_is_the_formulas_row_by_row(kind: str, steps: int) -> None:
    made, (states, first, second) = head(kind, steps=steps).eval(), rows()
    weights = {name: value.detach() for name, value in made.state_dict().items()}
    with torch.no_grad():
        found = made(states, first, second)
    for row in range(len(TEXTS)):
        expected = oracle.answer(weights, states[row][first[row]], states[row][second[row]], steps, kind)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_padding_nor_special_tokens_matter(kind: str) -> None:
    made, (states, first, second) = head(kind).eval(), rows()
    other = states.where((first | second).unsqueeze(-1), states + 100)
    with torch.no_grad():
        torch.testing.assert_close(made(other, first, second), made(states, first, second))


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_at_least_is_kept_and_the_mean_stays(kind: str) -> None:
    made = head(kind, steps=2, step_dropout=0.5).train()
    like = torch.zeros(4000, 2, 3)
    kept = made._kept(4000 if kind == "mt_dnn" else 1, like)
    kept = torch.cat([made._kept(1, like) for _ in range(4000)]) if kind == "mt_bert" else kept
    assert ((kept > 0).sum(1) >= 1).all()
    if kind == "mt_bert":  # a mean over the steps kept
        assert torch.equal(kept.sum(1).flatten(), torch.full((4000,), 2.0))
    else:  # of two steps one is kept for sure and the other every second time, each over one half
        torch.testing.assert_close(kept.mean(), torch.tensor(1.5), atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_trained_and_a_process_may_have_no_row(kind: str) -> None:
    made, (states, first, second) = head(kind).train(), rows()
    made(states, first, second).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in made.parameters())
    assert made(states[:0], first[:0], second[:0]).shape == (0, 3)
