from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl.batch import Batch, collate
from mtl.data import SequentialDataModule
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.methods import CAMTL
from mtl.tasks import Task


@pytest.fixture
def data(tasks: list[Task], backbone: str, in_tmp: Path) -> SequentialDataModule:
    data = SequentialDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    return data


def mixed(
    data: SequentialDataModule, tasks: list[Task], order: tuple[int, ...] = (0, 1, 2)
) -> Batch:
    parts = [
        data.train_splits[task].take(Draw(task, np.arange(task + 2)), task + 2) for task in order
    ]
    return collate(parts, [task.name for task in tasks], {})


@pytest.mark.parametrize("variant", ["base", "large"])
def test_a_mixed_batch_equals_its_tasks_alone(
    variant: Any, data: SequentialDataModule, tasks: list[Task], backbone: str
) -> None:
    module = CAMTL(variant, max_length=16, tasks=tasks, backbone=backbone).eval()
    together = module(mixed(data, tasks))
    for index, task in enumerate(tasks):
        torch.testing.assert_close(
            module(mixed(data, tasks, (index,)))[task.name],
            together[task.name],
            atol=1e-5,
            rtol=1e-5,
        )


def test_each_loss_has_gradients_for_the_encoder_and_its_own_task_embedding(
    data: SequentialDataModule, tasks: list[Task], backbone: str
) -> None:
    module = CAMTL(max_length=16, tasks=tasks, backbone=backbone)
    for index, task in enumerate(tasks):
        module.zero_grad()
        module.task_losses(mixed(data, tasks))[task.name].backward()
        gradient = module.encoder.task_embedding.weight.grad
        assert gradient is not None
        assert gradient.abs().sum(1).nonzero().flatten().tolist() == [index]
        assert module.encoder.backbone.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_loaded_weights_give_the_same_logits(
    data: SequentialDataModule, tasks: list[Task], backbone: str
) -> None:
    first = CAMTL(max_length=16, tasks=tasks, backbone=backbone).eval()
    second = CAMTL(max_length=16, tasks=tasks, backbone=backbone).eval()
    second.load_state_dict(first.state_dict())
    for name, logits in first(mixed(data, tasks)).items():
        assert torch.equal(second(mixed(data, tasks))[name], logits)


def test_frozen_layers_are_given_as_a_range(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    module = CAMTL(freeze_layers="0-0", tasks=tasks, backbone=backbone)
    assert not module.encoder.backbone.embeddings.word_embeddings.weight.requires_grad
    with pytest.raises(UserError, match="such as '0-4'"):
        CAMTL(freeze_layers="4", tasks=tasks, backbone=backbone)
