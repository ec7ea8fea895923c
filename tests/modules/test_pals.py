from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

from mtl.methods import PALs
from mtl.modules.pals import SmallAttention
from mtl.tasks import Task


def test_attention_probabilities_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    attention, states = SmallAttention(16, heads=1, dropout=0.25), torch.eye(16)
    with torch.no_grad():
        # The values are the rows of the identity, so the output is the matrix of probabilities.
        nn.init.eye_(attention.value.weight)
        probabilities = attention.eval()(states[None], None)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, 16))
        dropped = attention.train()(states.expand(200, 16, 16), None)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], (probabilities / 0.75).expand_as(dropped)[kept])
    assert stats.binomtest(int(kept.sum()), kept.numel(), 0.75).pvalue > 1e-3


@pytest.mark.parametrize("variant", ["tied", "shared_and_task"])
def test_the_small_attention_has_the_backbones_dropout(
    variant: Any, tasks: list[Task], backbone: str
) -> None:
    method = PALs(tasks=tasks, backbone=backbone, variant=variant)
    small = [module for module in method.modules() if isinstance(module, SmallAttention)]
    assert len(small) == 2 * (3 if variant == "tied" else 4)
    assert {module.dropout for module in small} == {0.1}
