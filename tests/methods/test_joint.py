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
    """Three rows of `mood` (2 classes), four of `same` (3 classes)."""
    data = SequentialDataModule(tasks=tasks[:2], backbone=backbone, max_length=16)
    data.setup("fit")
    parts = [
        data.train_tables[place].take(Draw(place, np.arange(3 + place)), 3 + place)
        for place in (0, 1)
    ]
    return collate(parts, ["mood", "same"], {})


def all_logits(module: Joint, batch: Batch) -> torch.Tensor:
    states = module.encoder.backbone(
        **{k: batch.tokens[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    )
    return module.head[1](states.last_hidden_state[:, 0])


def test_the_loss_is_the_mean_over_rows_among_all_classes(
    batch: Batch, tasks: list[Task], backbone: str
) -> None:
    module = Joint(tasks=tasks[:2], backbone=backbone).eval()
    labels = torch.cat(
        [batch.segments[0].labels, batch.segments[1].labels + 2]
    )  # the classes of `same` follow the two of `mood`
    expected = F.cross_entropy(all_logits(module, batch), labels)
    torch.testing.assert_close(
        module.combined(batch, module.task_losses(batch)), expected, atol=1e-5, rtol=1e-5
    )


def test_testing_is_among_the_tasks_own_classes(
    batch: Batch, tasks: list[Task], backbone: str
) -> None:
    module = Joint(tasks=tasks[:2], backbone=backbone).eval()
    logits, found = all_logits(module, batch), module.predict_proba(batch)
    torch.testing.assert_close(found["mood"], logits[:3, :2].softmax(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["same"], logits[3:, 2:].softmax(-1), atol=1e-5, rtol=1e-5)


def test_tasks_of_as_many_classes_share_them(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    twice = [tasks[0], Task.read({"name": "tone", "texts": ["text"], "classes": ["low", "high"]})]
    assert Joint(tasks=twice, backbone=backbone).head[1].out_features == 2
    assert Joint(tasks=twice, backbone=backbone, labels="union").head[1].out_features == 4


def test_nothing_depends_on_the_task(batch: Batch, tasks: list[Task], backbone: str) -> None:
    twice = [tasks[0], Task.read({"name": "same", "texts": ["a", "b"], "classes": ["x", "y"]})]
    module = Joint(tasks=twice, backbone=backbone).eval()
    swapped = batch._replace(task_ids=1 - batch.task_ids)
    for name, logits in module(batch).items():
        assert torch.equal(module(swapped)[name], logits)


def test_what_it_cannot_do_is_refused(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(UserError, match="Joint classifies only, and 'near' is a regression"):
        Joint(tasks=tasks, backbone=backbone)
    with pytest.raises(
        UserError, match=r"differ in their number of classes, {'mood': 2, 'same': 3}; use union"
    ):
        Joint("merged", tasks=tasks[:2], backbone=backbone)
