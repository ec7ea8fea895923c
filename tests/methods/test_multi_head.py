from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtl.balancing import BySize, Fixed
from mtl.batch import Batch, collate
from mtl.data import RoundRobinDataModule
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.methods.base import parameter_groups, warmup_then
from mtl.modules import SAN
from mtl.tasks import Task
from tests.conftest import FAMILIES, save_backbone


def mixed(
    data: RoundRobinDataModule, tasks: list[Task], order: tuple[int, ...] = (0, 1, 2)
) -> Batch:
    parts = [
        data.train_tables[task].take(Draw(task, torch.arange(task + 2).numpy()), task + 2)
        for task in order
    ]
    return collate(parts, [task.name for task in tasks], {})


@pytest.fixture
def data(tasks: list[Task], backbone: str, in_tmp: Path) -> RoundRobinDataModule:
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    return data


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_mixed_batch_equals_its_tasks_alone(
    family: str, pooling: str, tasks: list[Task], in_tmp: Path
) -> None:
    backbone = str(save_backbone(family, in_tmp / family))
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    module = MultiHead(pooling, tasks=tasks, backbone=backbone).eval()  # type: ignore[arg-type]
    together = module(mixed(data, tasks))
    for place, task in enumerate(tasks):
        alone = module(mixed(data, tasks, (place,)))[task.name]
        assert alone.shape == (place + 2, task.outputs)
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


def test_another_order_of_tasks_sends_no_row_elsewhere(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone).eval()
    turned = MultiHead(tasks=tasks[::-1], backbone=backbone).eval()
    turned.load_state_dict(module.state_dict())
    batch = mixed(data, tasks)
    for task, logits in module(batch).items():
        torch.testing.assert_close(turned(batch)[task], logits, atol=0, rtol=0)


def test_a_head_that_a_step_lacks_keeps_no_gradient(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    module.combined(
        mixed(data, tasks, (0,)), module.task_losses(mixed(data, tasks, (0,)))
    ).backward()
    with_gradient = {
        name.split(".")[1]
        for name, p in module.heads.named_parameters(prefix="heads")
        if p.grad is not None
    }
    assert with_gradient == {"mood"}


def test_a_loaded_backbone_trains_with_dropout(tasks: list[Task], backbone: str) -> None:
    assert all(part.training for part in MultiHead(tasks=tasks, backbone=backbone).modules())


def test_every_parameter_is_reached(
    data: RoundRobinDataModule, tasks: list[Task], backbone: str
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    module.combined(mixed(data, tasks), module.task_losses(mixed(data, tasks))).backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


def test_biases_and_norms_do_not_decay(tasks: list[Task], backbone: str) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    decaying, spared = parameter_groups(module, 1e-3, 0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert {name for p in spared["params"] if (name := names[id(p)])} == {
        name for name in names.values() if name.endswith("bias") or "LayerNorm" in name
    }
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_then("linear", optimizer, 2, 6)
    rates = []
    for _ in range(6):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.5, 1.0, 0.5])


def test_weights_by_size_have_mean_one_and_fixed_ones_are_checked() -> None:
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(3.0)}
    by_size = BySize()
    by_size.on_fit_start(nn.Module(), {"a": 30, "b": 10})
    assert by_size.combine(losses, {}) == pytest.approx((1.5 * 1 + 0.5 * 3) / 2)
    fixed = Fixed({"a": 0.0})
    fixed.on_fit_start(nn.Module(), {"a": 30, "b": 10})
    assert fixed.combine(losses, {}) == pytest.approx(1.5)
    with pytest.raises(UserError, match="Did you mean 'mood'"):
        Fixed({"mod": 1.0}).on_fit_start(nn.Module(), {"mood": 1})


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("heads", ["san", "san_mt_bert"])
def test_pairs_reason_over_their_two_texts_and_others_do_not(
    family: str, heads: str, tasks: list[Task], in_tmp: Path
) -> None:
    backbone = str(save_backbone(family, in_tmp / family))
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    module = MultiHead(heads=heads, tasks=tasks, backbone=backbone).eval()  # type: ignore[arg-type]
    assert [name for name, head in module.heads.items() if isinstance(head, SAN)] == [
        "same"
    ]  # the one pair with classes
    batch = mixed(data, tasks)
    together = module(batch)
    for place, task in enumerate(tasks):
        alone = module(mixed(data, tasks, (place,)))[task.name]
        torch.testing.assert_close(alone, together[task.name], atol=1e-5, rtol=1e-5)
    # The two texts, found by reading the ids: [CLS] first [SEP] second [SEP].
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    module.heads["same"].register_forward_pre_hook(
        lambda head, given: seen.append((given[1], given[2]))
    )
    module(batch)
    ids = batch.tokens["input_ids"][
        next(segment.examples for segment in batch.segments if segment.task == "same")
    ].tolist()
    for row, (first, second) in zip(ids, zip(*seen[0], strict=True), strict=True):
        ends = [place for place, token in enumerate(row) if token == 3]
        assert first.nonzero().flatten().tolist() == list(range(1, ends[0]))
        assert second.nonzero().flatten().tolist() == list(range(ends[0] + 1, ends[1]))


def test_dropout_by_task(tasks: list[Task], backbone: str) -> None:
    module = MultiHead(dropout={"mood": 0.05}, tasks=tasks, backbone=backbone)
    assert {name: head[0].p for name, head in module.heads.items()} == {
        "mood": 0.05,
        "same": 0.1,
        "near": 0.1,
    }  # type: ignore[index]
    with pytest.raises(UserError, match=r"'moood' is none of the tasks .*Did you mean 'mood'"):
        MultiHead(dropout={"moood": 0.05}, tasks=tasks, backbone=backbone)


def test_the_constant_schedule_stays_after_warm_up() -> None:
    optimizer = torch.optim.Adamax([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, found = warmup_then("constant", optimizer, 4, 10), []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
