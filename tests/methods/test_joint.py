from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtl.batch import Batch, collate
from mtl.data import SequentialDataModule
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.methods import Joint
from mtl.tasks import Task


@pytest.fixture
def batch(tasks: list[Task], backbone: str, in_tmp: Path) -> Batch:
    """Three examples of `mood` (2 classes), four of `same` (3 classes)."""
    data = SequentialDataModule(tasks=tasks[:2], backbone=backbone, max_length=16)
    data.setup("fit")
    parts = [
        data.train_splits[index].take(Draw(index, np.arange(3 + index)), 3 + index)
        for index in (0, 1)
    ]
    return collate(parts, ["mood", "same"], {})


def all_logits(module: Joint, batch: Batch) -> torch.Tensor:
    names = ("input_ids", "attention_mask", "token_type_ids")
    output = module.encoder.backbone(**{name: batch.tokens[name] for name in names})
    return module.head[1](output.last_hidden_state[:, 0])


def test_the_loss_is_the_mean_over_examples_of_the_cross_entropy_of_all_classes(
    batch: Batch, tasks: list[Task], backbone: str
) -> None:
    module = Joint(tasks=tasks[:2], backbone=backbone).eval()
    # The classes of `same` follow the two of `mood`.
    labels = torch.cat([batch.segments[0].labels, batch.segments[1].labels + 2])
    expected = F.cross_entropy(all_logits(module, batch), labels)
    torch.testing.assert_close(
        module.combined(batch, module.task_losses(batch)), expected, atol=1e-5, rtol=1e-5
    )


def test_predictions_are_restricted_to_the_tasks_own_classes(
    batch: Batch, tasks: list[Task], backbone: str
) -> None:
    module = Joint(tasks=tasks[:2], backbone=backbone).eval()
    logits, outputs = all_logits(module, batch), module.predict_proba(batch)
    torch.testing.assert_close(outputs["mood"], logits[:3, :2].softmax(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs["same"], logits[3:, 2:].softmax(-1), atol=1e-5, rtol=1e-5)


def test_tasks_with_equal_numbers_of_classes_share_them(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    two = [tasks[0], Task.read({"name": "tone", "texts": ["text"], "classes": ["low", "high"]})]
    assert Joint(tasks=two, backbone=backbone).head[1].out_features == 2
    assert Joint(tasks=two, backbone=backbone, labels="union").head[1].out_features == 4


def test_logits_do_not_depend_on_the_task(batch: Batch, tasks: list[Task], backbone: str) -> None:
    two = [tasks[0], Task.read({"name": "same", "texts": ["a", "b"], "classes": ["x", "y"]})]
    module = Joint(tasks=two, backbone=backbone).eval()
    swapped = batch._replace(task_ids=1 - batch.task_ids)
    for name, logits in module(batch).items():
        assert torch.equal(module(swapped)[name], logits)


def test_unsupported_tasks_and_losses_are_rejected(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(UserError, match="Joint does not support regression tasks such as 'near'"):
        Joint(tasks=tasks, backbone=backbone)
    with pytest.raises(
        UserError, match=r"differ in their number of classes, {'mood': 2, 'same': 3}; use union"
    ):
        Joint("merged", tasks=tasks[:2], backbone=backbone)
    with pytest.raises(UserError, match="losses: mood: Joint does not support 'ordinal'"):
        Joint(tasks=tasks[:2], backbone=backbone, losses={"mood": "ordinal"})
