from typing import Any

import pytest
import torch
from scipy import stats

from mtl.modules import SAN, MTBertSAN
from tests.oracles import san as oracle

KINDS = ["mt_dnn", "mt_bert"]
TEXTS = [(4, 3), (1, 6), (5, 1)]  # tokens of premise and hypothesis


def rows(width: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States of the pairs, special tokens between and padding behind, and which positions are whose."""
    states = torch.randn(len(TEXTS), 11, width, generator=torch.Generator().manual_seed(0))
    first, second = (
        torch.zeros(len(TEXTS), 11, dtype=torch.bool),
        torch.zeros(len(TEXTS), 11, dtype=torch.bool),
    )
    for row, (p, q) in enumerate(TEXTS):
        first[row, 1 : 1 + p] = True
        second[row, 2 + p : 2 + p + q] = True
    return states, first, second


def head(kind: str, **args: Any) -> SAN:
    torch.manual_seed(1)
    made = {"mt_dnn": SAN, "mt_bert": MTBertSAN}[kind](6, 3, **args)
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
        expected = oracle.answer(
            weights, states[row][first[row]], states[row][second[row]], steps, kind
        )
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_padding_nor_special_tokens_matter(kind: str) -> None:
    made, (states, first, second) = head(kind).eval(), rows()
    other = states.where((first | second).unsqueeze(-1), states + 100)
    with torch.no_grad():
        torch.testing.assert_close(made(other, first, second), made(states, first, second))


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_at_least_is_kept_and_the_others_by_chance(kind: str) -> None:
    made, rows = head(kind, steps=2, step_dropout=0.5).train(), 4000 if kind == "mt_dnn" else 1
    kept = torch.cat([made._weights(torch.zeros(rows, 2, 3)) for _ in range(4000 // rows)]) > 0
    counts = kept.sum(1).flatten().bincount(minlength=3)
    assert counts[0] == 0
    assert (
        stats.binomtest(int(counts[2]), 4000, 0.5).pvalue > 1e-3
    )  # one for sure, the other every second time


def test_of_mt_bert_a_step_drops_for_the_whole_batch() -> None:
    assert head("mt_bert").train()._weights(torch.zeros(9, 5, 3)).shape == (1, 5, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_trained_and_a_process_may_have_no_row(kind: str) -> None:
    made, (states, first, second) = head(kind).train(), rows()
    made(states, first, second).square().sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in made.parameters()
    )
    assert made(states[:0], first[:0], second[:0]).shape == (0, 3)
