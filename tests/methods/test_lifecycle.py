from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl.balancing import Sum
from mtl.batch import Batch
from mtl.data import RoundRobinDataModule, SequentialDataModule
from mtl.methods import MultiHead
from mtl.methods.evaluation import SplitResult, scores_by_task
from mtl.methods.fit import UpdateWindow
from mtl.regularizers import Regularizer
from mtl.tasks import Task
from mtl.training.lifecycle import TrainingHooks
from tests.methods.training import fit


class Observer(RoundRobinDataModule):
    """A sampling scheme that records the calls of its hooks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step_losses: list[dict[str, float]] = []
        self.scores: list[dict[str, float]] = []

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        assert not any(loss.requires_grad for loss in losses.values())
        self.step_losses.append({task: float(loss) for task, loss in losses.items()})

    def on_validation_scores(self, scores: Mapping[str, float]) -> None:
        self.scores.append(dict(scores))


class RecordingBalancer(Sum):
    """A balancer that records the losses of every batch and every update."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[dict[str, float]] = []
        self.updates: list[dict[str, float]] = []

    def combine(self, losses: Mapping[str, Tensor], examples: Mapping[str, float]) -> Tensor:
        self.batches.append({task: float(loss.detach()) for task, loss in losses.items()})
        return super().combine(losses, examples)

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        self.updates.append({task: float(loss) for task, loss in losses.items()})


class RecomputingBalancer(RecordingBalancer):
    """A balancer that records the recomputed losses."""

    recomputes_losses = True

    def __init__(self) -> None:
        super().__init__()
        self.recomputed: list[dict[str, float]] = []

    def on_losses_recomputed(self, losses: Mapping[str, Tensor]) -> None:
        self.recomputed.append({task: float(loss) for task, loss in losses.items()})


@pytest.mark.parametrize("accumulate", [1, 4])
def test_balancer_and_scheme_get_each_tasks_mean_loss_over_the_batches_of_an_update(
    accumulate: int, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    balancer = RecordingBalancer()
    module = MultiHead(tasks=tasks, backbone=backbone, balancer=balancer)
    data = Observer(tasks=tasks, backbone=backbone, max_length=16, batch_size=4)
    fit(module, data, max_steps=3, accumulate_grad_batches=accumulate, limit_val_batches=0)
    assert len(balancer.batches) == 3 * accumulate
    expected = []
    for start in range(0, len(balancer.batches), accumulate):
        losses: dict[str, list[float]] = {}
        for batch in balancer.batches[start : start + accumulate]:
            for task, loss in batch.items():
                losses.setdefault(task, []).append(loss)
        expected.append({task: pytest.approx(sum(x) / len(x)) for task, x in losses.items()})
    assert data.step_losses == expected
    assert balancer.updates == expected


@pytest.mark.parametrize("accumulate", [1, 4])
def test_recomputed_losses_are_those_of_the_last_batch_with_the_updated_weights(
    accumulate: int, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    balancer = RecomputingBalancer()
    module = MultiHead(tasks=tasks, backbone=backbone, balancer=balancer, lr=1e-30)
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16, batch_size=4)
    fit(module, data, max_steps=3, accumulate_grad_batches=accumulate, limit_val_batches=0)
    # With this learning rate the losses stay as they were; so do the dropout masks.
    assert balancer.recomputed == balancer.batches[accumulate - 1 :: accumulate]


class CallLog(TrainingHooks):
    """Records the calls of all hooks."""

    calls: list[tuple[str, str, tuple[Any, ...]]]
    name: str

    def on_fit_start(self, *args: Any) -> None:
        self.calls.append((self.name, "on_fit_start", args))

    def on_step_start(self, *args: Any) -> None:
        self.calls.append((self.name, "on_step_start", args))

    def on_step_end(self, *args: Any) -> None:
        self.calls.append((self.name, "on_step_end", args))

    def on_validation_scores(self, *args: Any) -> None:
        self.calls.append((self.name, "on_validation_scores", args))

    def on_epoch_end(self, *args: Any) -> None:
        self.calls.append((self.name, "on_epoch_end", args))

    def on_fit_end(self, *args: Any) -> None:
        self.calls.append((self.name, "on_fit_end", args))


class LoggedBalancer(CallLog, Sum):
    name = "balancer"


class LoggedRegularizer(CallLog, Regularizer):
    name = "regularizer"

    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {}


class LoggedScheme(CallLog, RoundRobinDataModule):
    name = "scheme"


def test_balancer_regularizer_and_scheme_get_the_same_hooks_with_the_same_arguments(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    CallLog.calls = []
    module = MultiHead(
        tasks=tasks, backbone=backbone, balancer=LoggedBalancer(), regularizer=LoggedRegularizer()
    )
    data = LoggedScheme(tasks=tasks, backbone=backbone, max_length=16)
    fit(module, data, max_epochs=1, limit_train_batches=2)
    hooks = ["on_fit_start", *["on_step_start", "on_step_end"] * 2, "on_validation_scores"]
    hooks += ["on_epoch_end", "on_fit_end"]
    called = [(name, hook) for name, hook, _ in CallLog.calls]
    assert called == [
        (name, hook) for hook in hooks for name in ("balancer", "regularizer", "scheme")
    ]
    for first in range(0, len(called), 3):
        arguments = [args for _, _, args in CallLog.calls[first : first + 3]]
        for each in arguments:
            assert all(one is other for one, other in zip(each, arguments[0], strict=True))


def test_the_scheme_gets_each_tasks_score_after_each_validation_but_the_sanity_check(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone)
    data = Observer(tasks=tasks, backbone=backbone, max_length=16)
    trainer = fit(module, data, max_epochs=2, num_sanity_val_steps=2)
    assert len(data.scores) == 2
    assert data.scores[-1] == {
        task.name: pytest.approx(module.results[task.name]["score"]) for task in tasks
    }
    trainer.validate(module, data, verbose=False)
    assert len(data.scores) == 2  # outside of training there is nothing to adapt


def test_a_score_is_the_mean_over_the_splits_of_a_task() -> None:
    def result(score: float) -> SplitResult:
        return SplitResult(examples=1, loss=0.0, score=score, metrics={})

    results = {"mnli/matched": result(0.8), "mnli/mismatched": result(0.9), "cola": result(0.5)}
    assert scores_by_task(results) == {"mnli": pytest.approx(0.85), "cola": 0.5}


def test_a_window_averages_over_the_batches_that_contain_a_task() -> None:
    window = UpdateWindow()
    window.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)})
    window.add({"a": torch.tensor(2.0)})
    assert window.close() == {"a": torch.tensor(1.5), "b": torch.tensor(5.0)}
    assert window.close() == {}


def test_a_scheme_without_hooks_can_be_trained(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = SequentialDataModule(tasks=tasks, backbone=backbone, max_length=16)
    trainer = fit(MultiHead(tasks=tasks, backbone=backbone), data, max_steps=2)
    assert trainer.global_step == 2
