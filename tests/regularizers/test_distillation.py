"""Distillation: the loss and its gradient for every kind of task, annealing, storage, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.nn import functional as F

from mtl.batch import Batch
from mtl.data import RoundRobinDataModule
from mtl.errors import UserError
from mtl.inference import stored_outputs
from mtl.inference.loading import load_trained_model
from mtl.methods import MultiHead
from mtl.regularizers import Distillation
from mtl.tasks import Task
from tests.conftest import save_backbone
from tests.label_group import write_label_group
from tests.methods.training import fit

KINDS = ["topic", "urgency", "tags", "entities"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distillation")


@pytest.fixture(scope="module")
def tasks(folder: Path) -> list[Task]:
    """A class, a number, several classes, and tags of words; texts lack some of these labels."""
    return Task.read_all(write_label_group(folder))


@pytest.fixture(scope="module")
def teacher(tasks: list[Task], module_backbone: str, folder: Path) -> str:
    torch.manual_seed(1)
    method = MultiHead(tasks=tasks, backbone=module_backbone, lr=1e-2)
    fit(method, make_data(tasks, module_backbone, folder), max_steps=3).save_checkpoint(
        folder / "teacher.ckpt"
    )
    return str(folder / "teacher.ckpt")


@pytest.fixture(scope="module")
def module_backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone("bert", tmp_path_factory.mktemp("backbone")))


def make_data(tasks: list[Task], backbone: str, folder: Path, **options: Any) -> Any:
    return RoundRobinDataModule(
        tasks=tasks, backbone=backbone, batch_size=8, cache=folder / "cache", **options
    )


def make_student(tasks: list[Task], backbone: str, **options: Any) -> MultiHead:
    torch.manual_seed(0)
    return MultiHead(tasks=tasks, backbone=backbone, **options)


class Steps(Callback):
    """Records the batches, the method's losses and the regularizer's share of them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.shares: list[float] = []
        self.penalties: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Any, method: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        self.batches.append(batch)
        self.penalties.append(method.regularizer_losses)

    def on_train_batch_start(self, trainer: Any, method: Any, batch: Any, i: int) -> None:
        self.shares.append(trainer.global_step / trainer.estimated_stepping_batches)


def trained(
    tasks: list[Task], backbone: str, folder: Path, regularizer: Distillation | None, steps: int = 3
) -> tuple[MultiHead, Steps]:
    recorded = Steps()
    student = make_student(tasks, backbone, regularizer=regularizer)
    fit(student, make_data(tasks, backbone, folder), max_steps=steps, callbacks=[recorded])
    return student, recorded


def mixed_target_loss(
    kind: str, logits: Tensor, teacher: Tensor, labels: Tensor, w: float
) -> Tensor:
    """The paper's loss with the target w * label + (1 - w) * prediction, of labelled terms."""
    if kind == "urgency":
        known = labels == labels
        return ((logits[:, 0] - (w * labels + (1 - w) * teacher[:, 0]))[known] ** 2).sum()
    if kind == "tags":
        known = labels[:, 0] == labels[:, 0]
        target = w * labels[known] + (1 - w) * teacher[known].sigmoid()
        losses = F.binary_cross_entropy_with_logits(logits[known], target, reduction="none")
        return losses.mean(-1).sum()
    labels = labels if kind == "topic" else F.pad(labels, (0, 99), value=-1)[:, : logits.shape[1]]
    known = labels >= 0
    target = w * F.one_hot(labels[known], logits.shape[-1]) + (1 - w) * teacher[known].softmax(-1)
    return -(target * logits[known].log_softmax(-1)).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_a_mixed_target(
    kind: str, tasks: list[Task], teacher: str, module_backbone: str, folder: Path
) -> None:
    weight = 0.3
    regularizer = Distillation([teacher], label_weight=weight)
    student, recorded = trained(tasks, module_backbone, folder, regularizer, steps=1)
    batch = recorded.batches[0]
    segment = next(each for each in batch.segments if each.task == kind)
    direct = load_trained_model(Path(teacher)).module
    with torch.no_grad():
        expected = direct(batch)[kind]
        logits = student.eval()(batch)
    ours, theirs = (logits[kind].clone().requires_grad_() for _ in range(2))
    penalty = regularizer(student, batch, logits | {kind: ours})[kind]
    loss = ((student.example_losses(segment, ours) + penalty) * segment.weights).sum()
    (gradient,) = torch.autograd.grad(loss, ours)
    (correct,) = torch.autograd.grad(
        mixed_target_loss(kind, theirs, expected, segment.labels, weight), theirs
    )
    assert correct.abs().max() > 1e-4
    torch.testing.assert_close(gradient, correct, atol=1e-6, rtol=1e-4)


def test_the_label_weight_rises_from_0_to_1(
    tasks: list[Task], teacher: str, module_backbone: str, folder: Path
) -> None:
    _, annealed = trained(tasks, module_backbone, folder, Distillation([teacher]), steps=4)
    assert annealed.shares == [0, 0.25, 0.5, 0.75]
    # The first step has no share of the labels, so it is that of a constant weight of 0.
    constant = Distillation([teacher], label_weight=0)
    _, fixed = trained(tasks, module_backbone, folder, constant, steps=1)
    assert annealed.penalties[0] == fixed.penalties[0]


def test_a_label_weight_of_1_changes_nothing(
    tasks: list[Task], teacher: str, module_backbone: str, folder: Path
) -> None:
    without, _ = trained(tasks, module_backbone, folder, None)
    with_teacher, _ = trained(
        tasks, module_backbone, folder, Distillation([teacher], label_weight=1)
    )
    for name, value in without.state_dict().items():
        torch.testing.assert_close(with_teacher.state_dict()[name], value, rtol=0, atol=0)


def test_outputs_are_computed_once(
    tasks: list[Task],
    teacher: str,
    module_backbone: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained(tasks, module_backbone, folder, Distillation([teacher]), steps=1)
    monkeypatch.delattr(stored_outputs, "load_trained_model")
    trained(tasks, module_backbone, folder, Distillation([teacher]), steps=1)


def test_teachers_that_cannot_be_used_are_refused(
    tasks: list[Task], teacher: str, module_backbone: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="teachers: give the run folder"):
        Distillation()
    with pytest.raises(UserError, match="several teachers of task 'topic'"):
        again = tmp_path / "again.ckpt"
        again.write_bytes(Path(teacher).read_bytes())
        trained(tasks, module_backbone, folder, Distillation([teacher, str(again)]))
    one = make_student(tasks[:1], module_backbone)
    fit(one, make_data(tasks[:1], module_backbone, folder), max_steps=1).save_checkpoint(
        tmp_path / "one.ckpt"
    )
    with pytest.raises(UserError, match="no teacher of task 'urgency'.*one.ckpt has topic"):
        trained(tasks, module_backbone, folder, Distillation([str(tmp_path / "one.ckpt")]))
    other = str(save_backbone("bert", tmp_path / "other"))
    file = tmp_path / "other" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": None}))
    with pytest.raises(UserError, match="has another tokenizer; give a teacher with the same"):
        trained(tasks, other, tmp_path, Distillation([teacher]))
