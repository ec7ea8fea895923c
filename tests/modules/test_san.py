from typing import Any

import pytest
import torch
from scipy import stats

from mtl.modules.san import MTBertSANHead, SANHead, answer_weight_from_release
from tests.oracles import san as oracle

KINDS = ["mt_dnn", "mt_bert"]
TEXTS = [(4, 3), (1, 6), (5, 1)]  # numbers of tokens of premise and hypothesis


def pairs(width: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States of text pairs with special tokens and padding, and the masks of the two texts."""
    states = torch.randn(len(TEXTS), 11, width, generator=torch.Generator().manual_seed(0))
    first, second = torch.zeros(2, len(TEXTS), 11, dtype=torch.bool)
    for example, (p, q) in enumerate(TEXTS):
        first[example, 1 : 1 + p] = True
        second[example, 2 + p : 2 + p + q] = True
    return states, first, second


def make_head(kind: str, **arguments: Any) -> SANHead:
    torch.manual_seed(1)
    head = {"mt_dnn": SANHead, "mt_bert": MTBertSANHead}[kind](6, 3, **arguments)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return head


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 5])
def test_each_example_follows_the_published_formulas(kind: str, steps: int) -> None:
    head, (states, first, second) = make_head(kind, steps=steps).eval(), pairs()
    weights = {name: value.detach() for name, value in head.state_dict().items()}
    with torch.no_grad():
        logits = head(states, first, second)
    for example in range(len(TEXTS)):
        expected = oracle.answer(
            weights,
            states[example][first[example]],
            states[example][second[example]],
            steps,
            kind,
        )
        torch.testing.assert_close(logits[example], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_special_tokens_do_not_matter(kind: str) -> None:
    head, (states, first, second) = make_head(kind).eval(), pairs()
    changed = states.where((first | second).unsqueeze(-1), states + 100)
    with torch.no_grad():
        torch.testing.assert_close(head(changed, first, second), head(states, first, second))


@pytest.mark.parametrize("kind", KINDS)
def test_at_least_one_step_is_never_dropped(kind: str) -> None:
    head = make_head(kind, steps=2, step_dropout=0.5).train()
    size = 4000 if kind == "mt_dnn" else 1
    logits = torch.zeros(size, 2, 3)
    kept = torch.cat([head._step_weights(logits) for _ in range(4000 // size)]) > 0
    counts = kept.sum(1).flatten().bincount(minlength=3)
    assert counts[0] == 0
    # One step is always kept, the other with probability 1/2.
    assert stats.binomtest(int(counts[2]), 4000, 0.5).pvalue > 1e-3


def test_mt_bert_drops_steps_for_the_complete_batch() -> None:
    assert make_head("mt_bert").train()._step_weights(torch.zeros(9, 5, 3)).shape == (1, 5, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient_and_a_batch_may_be_empty(kind: str) -> None:
    head, (states, first, second) = make_head(kind).train(), pairs()
    head(states, first, second).square().sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in head.parameters()
    )
    assert head(states[:0], first[:0], second[:0]).shape == (0, 3)


def test_the_answer_weight_of_the_release_gives_its_logits() -> None:
    state, context = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    weight = torch.randn(3, 24, generator=torch.Generator().manual_seed(3))
    # The release concatenates the context first.
    released = torch.cat([context, state, (context - state).abs(), context * state], -1)
    ours = torch.cat([state, context, (state - context).abs(), state * context], -1)
    expected = released @ weight.T
    torch.testing.assert_close(ours @ answer_weight_from_release(weight).T, expected)
