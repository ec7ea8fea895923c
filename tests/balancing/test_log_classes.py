import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl.balancing import LogClasses
from mtl.tasks import Task


@given(st.integers(2, 30), st.integers(2, 9), st.integers(2, 6))
def test_losses_of_equally_probable_classes_become_1(
    classes: int, labels: int, choices: int
) -> None:
    names = [f"class {index}" for index in range(30)]
    kinds: dict[str, dict[str, Any]] = {
        "one": {"texts": ["text"], "classes": names[:classes]},
        "several": {"texts": ["text"], "labels": "topics", "classes": names[:labels]},
        "choice": {"texts": ["text"], "choices": names[:choices]},
        "number": {"texts": ["text"], "range": [0, 5]},
    }
    tasks = [Task.read({"name": name, **fields}) for name, fields in kinds.items()]
    # The cross-entropy of equal probabilities; of several labels the mean of binary decisions.
    losses = {"one": math.log(classes), "several": math.log(2), "choice": math.log(choices)}
    balancer = LogClasses()
    balancer.on_fit_start(SimpleNamespace(tasks=tasks), dict.fromkeys(kinds, 1))
    for name, loss in losses.items():
        assert balancer.combine({name: torch.tensor(loss)}, {}) == pytest.approx(1.0)
    assert balancer.combine({"number": torch.tensor(0.7)}, {}) == pytest.approx(0.7)
