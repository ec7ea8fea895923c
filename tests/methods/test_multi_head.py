from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mtl.balancing import BySize, Fixed
from mtl.batch import Batch, collate
from mtl.data import RoundRobinDataModule
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.modules.backbone_checks import Pooling
from mtl.modules.heads import SAN, HeadFactory, LinearHead, MTBertSAN
from mtl.modules.san import SANHead
from mtl.tasks import Task
from tests.conftest import FAMILIES, save_backbone


def mixed(
    data: RoundRobinDataModule, tasks: list[Task], order: tuple[int, ...] = (0, 1, 2)
) -> Batch:
    """A batch of `index + 2` examples of each task in `order`."""
    parts = [
        data.train_splits[task].take(Draw(task, torch.arange(task + 2).numpy()), task + 2)
        for task in order
    ]
    return collate(parts, [task.name for task in tasks], {})


def open_data(tasks: list[Task], backbone: str) -> RoundRobinDataModule:
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    return data


@pytest.fixture
def data(tasks: list[Task], backbone: str, in_tmp: Path) -> RoundRobinDataModule:
    return open_data(tasks, backbone)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_mixed_batch_equals_its_tasks_alone(
    family: str, pooling: Pooling, tasks: list[Task], in_tmp: Path
) -> None:
    backbone = str(save_backbone(family, in_tmp / family))
    data = open_data(tasks, backbone)
    module = MultiHead(pooling, tasks=tasks, backbone=backbone).eval()
    together = module(mixed(data, tasks))
    for index, task in enumerate(tasks):
        alone = module(mixed(data, tasks, (index,)))[task.name]
        assert alone.shape == (index + 2, task.kind.output_size)
        torch.testing.assert_close(together[task.name], alone, atol=1e-5, rtol=1e-5)


def test_losses_are_cross_entropy_and_squared_error(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone).eval()
    batch = mixed(data, tasks)
    logits, losses = module(batch), module.task_losses(batch)
    labels = {segment.task: segment.labels for segment in batch.segments}
    torch.testing.assert_close(losses["mood"], F.cross_entropy(logits["mood"], labels["mood"]))
    torch.testing.assert_close(losses["same"], F.cross_entropy(logits["same"], labels["same"]))
    torch.testing.assert_close(losses["near"], F.mse_loss(logits["near"][:, 0], labels["near"]))


def test_logits_do_not_depend_on_the_order_of_the_tasks(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone).eval()
    reversed_tasks = MultiHead(tasks=tasks[::-1], backbone=backbone).eval()
    reversed_tasks.load_state_dict(module.state_dict())
    batch = mixed(data, tasks)
    for task, logits in module(batch).items():
        torch.testing.assert_close(reversed_tasks(batch)[task], logits, atol=0, rtol=0)


def test_the_head_of_a_task_without_examples_gets_no_gradient(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    batch = mixed(data, tasks, (0,))
    module.combined(batch, module.task_losses(batch)).backward()
    with_gradient = {
        name.split(".")[1]
        for name, parameter in module.heads.named_parameters(prefix="heads")
        if parameter.grad is not None
    }
    assert with_gradient == {"mood"}


def test_a_loaded_backbone_is_in_training_mode(tasks: list[Task], backbone: str) -> None:
    assert all(module.training for module in MultiHead(tasks=tasks, backbone=backbone).modules())


def test_every_parameter_gets_a_gradient(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    module.combined(mixed(data, tasks), module.task_losses(mixed(data, tasks))).backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("pair_head", [SAN(), MTBertSAN()], ids=lambda head: type(head).__name__)
def test_only_the_pair_head_reads_the_two_texts(
    family: str, pair_head: HeadFactory, tasks: list[Task], in_tmp: Path
) -> None:
    backbone = str(save_backbone(family, in_tmp / family))
    data = open_data(tasks, backbone)
    module = MultiHead(pair_head=pair_head, tasks=tasks, backbone=backbone).eval()
    # `same` is the only pair with classes.
    assert [name for name, head in module.heads.items() if isinstance(head, SANHead)] == ["same"]
    assert module.reads_token_states
    batch = mixed(data, tasks)
    together = module(batch)
    for index, task in enumerate(tasks):
        alone = module(mixed(data, tasks, (index,)))[task.name]
        torch.testing.assert_close(alone, together[task.name], atol=1e-5, rtol=1e-5)
    # The expected masks are read from the token ids: [CLS] first [SEP] belongs to
    # the first text, second [SEP] to the second.
    masks: list[Any] = []
    module.heads["same"].register_forward_pre_hook(lambda head, inputs: masks.append(inputs[1:3]))
    module(batch)
    examples = next(segment.examples for segment in batch.segments if segment.task == "same")
    all_ids = batch.tokens["input_ids"][examples].tolist()
    for ids, first, second in zip(all_ids, *masks[0], strict=True):
        separators = [index for index, token in enumerate(ids) if token == 3]
        assert first.nonzero().flatten().tolist() == list(range(separators[0] + 1))
        second_text = range(separators[0] + 1, separators[1] + 1)
        assert second.nonzero().flatten().tolist() == list(second_text)


def test_mt_berts_san_has_as_many_steps_as_the_encoder_has_layers(
    tasks: list[Task], backbone: str
) -> None:
    head = MultiHead(pair_head=MTBertSAN(), tasks=tasks, backbone=backbone).heads["same"]
    assert isinstance(head, SANHead) and head.steps == 2
    head = MultiHead(pair_head=MTBertSAN(steps=4), tasks=tasks, backbone=backbone).heads["same"]
    assert isinstance(head, SANHead) and head.steps == 4


def test_hyperparameters_store_heads_as_plain_values(tasks: list[Task], backbone: str) -> None:
    module = MultiHead(pair_head=SAN(steps=3), tasks=tasks, backbone=backbone)
    assert module.hparams["head"] is None
    assert module.hparams["pair_head"] == {
        "class_path": "mtl.modules.heads.SAN",
        "init_args": {"steps": 3},
    }


def test_a_head_of_pairs_is_rejected_for_a_single_text(tasks: list[Task], backbone: str) -> None:
    message = "SAN classifies text pairs, but 'mood' is a classification task with one text"
    with pytest.raises(UserError, match=message):
        MultiHead(head=SAN(), tasks=tasks, backbone=backbone)


def test_dropout_can_differ_between_tasks(tasks: list[Task], backbone: str) -> None:
    module = MultiHead(dropout={"mood": 0.05}, tasks=tasks, backbone=backbone)
    probabilities = {}
    for name, head in module.heads.items():
        assert isinstance(head, LinearHead) and isinstance(head[0], torch.nn.Dropout)
        probabilities[name] = head[0].p
    assert probabilities == {"mood": 0.05, "same": 0.1, "near": 0.1}
    with pytest.raises(UserError, match="dropout: unknown task 'moood'.* Did you mean 'mood'"):
        MultiHead(dropout={"moood": 0.05}, tasks=tasks, backbone=backbone)


def test_weights_by_size_have_mean_one_and_fixed_weights_are_checked() -> None:
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(3.0)}
    by_size = BySize()
    by_size.on_fit_start(torch.nn.Module(), {"a": 30, "b": 10})
    assert by_size.combine(losses, {}) == pytest.approx((1.5 * 1 + 0.5 * 3) / 2)
    fixed = Fixed({"a": 0.0})
    fixed.on_fit_start(torch.nn.Module(), {"a": 30, "b": 10})
    assert fixed.combine(losses, {}) == pytest.approx(1.5)
    with pytest.raises(UserError, match="Did you mean 'mood'"):
        Fixed({"mod": 1.0}).on_fit_start(torch.nn.Module(), {"mood": 1})
