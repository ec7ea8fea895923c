from pathlib import Path

import numpy as np
import torch

from mtl.batch import collate
from mtl.data import SequentialDataModule
from mtl.data.order import Draw
from mtl.methods import MultiHead, Separate
from mtl.tasks import Task


def test_each_task_equals_a_single_task_model(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = SequentialDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    module = Separate(tasks=tasks, backbone=backbone).eval()
    parts = [
        data.train_splits[index].take(Draw(index, np.arange(3 + index)), 3 + index)
        for index in (0, 1, 2)
    ]
    names = [task.name for task in tasks]
    batch = collate(parts, names, {})
    module.combined(batch, module.task_losses(batch)).backward()
    for index, task in enumerate(tasks):
        single = MultiHead(tasks=[task], backbone=backbone).eval()
        weights = {
            name.replace(f"encoders.{task.name}.", "encoder."): value
            for name, value in module.state_dict().items()
            if f".{task.name}." in name
        }
        single.load_state_dict(weights)
        alone = collate([parts[index]], names, {})
        losses = single.task_losses(alone)
        torch.testing.assert_close(
            module(batch)[task.name], single(alone)[task.name], atol=1e-5, rtol=1e-5
        )
        single.combined(alone, losses).backward()
        ours = dict(module.encoders[task.name].named_parameters())
        for name, parameter in single.encoder.named_parameters():
            torch.testing.assert_close(ours[name].grad, parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_task_without_examples_gets_no_gradient(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = SequentialDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    module = Separate(tasks=tasks, backbone=backbone)
    batch = collate(
        [data.train_splits[1].take(Draw(1, np.arange(3)), 3)], [task.name for task in tasks], {}
    )
    module.combined(batch, module.task_losses(batch)).backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == (".same." in name), name
