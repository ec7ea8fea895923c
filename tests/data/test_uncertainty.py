from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import Precision
from scipy import stats

from mtl.batch import Batch
from mtl.data import RoundRobinDataModule, UncertaintyDataModule
from mtl.data.loader import StepDataset
from mtl.data.uncertainty import mt_uncertainty
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.tasks import Task


def probabilities(examples: int, classes: int, seed: int) -> torch.Tensor:
    return torch.softmax(
        3 * torch.randn(examples, classes, generator=torch.Generator().manual_seed(seed)), -1
    )


def test_code_scores_equal_those_of_the_release() -> None:
    inputs = {"two": probabilities(5, 2, 0), "three": probabilities(7, 3, 1)}
    scores, means = mt_uncertainty(inputs)
    shares = {
        task: stats.entropy(values.numpy(), axis=1) / (np.log(values.shape[1]) + 1e-5)
        for task, values in inputs.items()
    }
    largest = max(share.mean() for share in shares.values())
    for task, share in shares.items():
        np.testing.assert_allclose(scores[task], share * share.mean() / largest, rtol=1e-5)
        np.testing.assert_allclose(means[task], share.mean(), rtol=1e-5)


def test_paper_scores_rank_examples_by_entropy_alone() -> None:
    inputs = {"two": probabilities(5, 2, 0), "three": probabilities(7, 3, 1)}
    scores, means = mt_uncertainty(inputs, "paper")
    for task, values in inputs.items():
        expected = (
            stats.entropy(values.numpy(), axis=1)
            / np.log(values.shape[1])
            / max(map(float, means.values()))
        )
        np.testing.assert_allclose(scores[task], expected, rtol=1e-4)


def test_tasks_of_maximal_uncertainty_score_one() -> None:
    scores, _ = mt_uncertainty(
        {"two": torch.full((3, 2), 1 / 2), "three": torch.full((3, 3), 1 / 3)}
    )
    torch.testing.assert_close(torch.cat(list(scores.values())), torch.ones(6), atol=2e-5, rtol=0)


def test_a_task_of_one_class_has_no_entropy() -> None:
    with pytest.raises(ValueError, match="near"):
        mt_uncertainty({"near": torch.ones(3, 1)})


class Recorder(Callback):
    """Records the training batches, and whether all modules are in training mode."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.modes: list[bool] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.batches.append(batch)
        self.modes.append(all(module.training for module in pl_module.modules()))


def fitted(
    data: Any, tasks: list[Task], backbone: str, callback: Callback, **trainer: Any
) -> MultiHead:
    torch.manual_seed(0)
    module = MultiHead(tasks=tasks, backbone=backbone, lr=1e-3)
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(silent, False) | {"limit_val_batches": 0}
    quiet |= {"accelerator": "cpu", "use_distributed_sampler": False}
    Trainer(callbacks=[callback], **quiet | {"max_steps": 3, "max_epochs": 1} | trainer).fit(
        module, data
    )
    return module


def scheme(tasks: list[Task], backbone: str, **args: Any) -> UncertaintyDataModule:
    usual: dict[str, Any] = {"batch_size": 6, "max_length": 16, "regression": {"near": "same"}}
    return UncertaintyDataModule(**usual | args, tasks=tasks, backbone=backbone)


def test_the_examples_with_the_highest_scores_are_trained_on(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    seen = Recorder()
    fitted(scheme(tasks, backbone), tasks, backbone, seen, max_steps=1)
    torch.manual_seed(0)
    module = MultiHead(tasks=tasks, backbone=backbone).eval()
    candidates = scheme(tasks, backbone)
    candidates.setup("fit")
    batch = next(iter(candidates.train_dataloader()))
    with torch.no_grad():
        outputs = module.predict_proba(batch)
    scores, _ = mt_uncertainty({task: outputs[task] for task in ("mood", "same")})
    scores["near"] = scores["same"]  # one by one
    ranked = [
        (float(scores[segment.task][index]), segment.task, int(number))
        for segment in batch.segments
        for index, number in enumerate(segment.ids)
    ]
    best = sorted(ranked, reverse=True)[:6]
    chosen = [
        (segment.task, int(number))
        for segment in seen.batches[0].segments
        for number in segment.ids
    ]
    assert sorted(chosen) == sorted((task, number) for _, task, number in best)
    labels = {
        segment.task: dict(zip(segment.ids.tolist(), segment.labels.tolist(), strict=True))
        for segment in batch.segments
    }
    for segment in seen.batches[0].segments:
        assert segment.labels.tolist() == [
            labels[segment.task][number] for number in segment.ids.tolist()
        ]
        assert segment.denominator == len(segment.ids)
        mask = seen.batches[0].tokens["attention_mask"][segment.examples]
        assert segment.length == mask.sum(1).max()


class AllCandidates(UncertaintyDataModule):
    """Scores the candidates, then selects all of them."""

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        super().on_after_batch_transfer(batch, dataloader_idx)
        return batch


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_scoring_does_not_change_the_training(
    precision: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    args: dict[str, Any] = {"tasks": tasks, "backbone": backbone, "batch_size": 6, "max_length": 16}
    plain = fitted(
        RoundRobinDataModule(mixed=True, **args), tasks, backbone, Recorder(), precision=precision
    )
    scored = fitted(
        AllCandidates(regression={"near": "same"}, **args),
        tasks,
        backbone,
        seen := Recorder(),
        precision=precision,
    )
    assert all(seen.modes)
    for one, other in zip(plain.parameters(), scored.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_with_accumulation_and_dropout_in_scoring_is_reproducible(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    first, second = (
        fitted(
            scheme(tasks, backbone, dropout=True),
            tasks,
            backbone,
            Recorder(),
            accumulate_grad_batches=2,
        )
        for _ in range(2)
    )
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_module_in_evaluation_mode_stays_in_it(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    class Frozen(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            pl_module.encoder.backbone.embeddings.eval()

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            assert not pl_module.encoder.backbone.embeddings.training
            assert pl_module.encoder.backbone.encoder.training

    fitted(scheme(tasks, backbone), tasks, backbone, Frozen())


def test_a_regression_task_needs_a_score(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(
        UserError, match=r"'near' is a regression.*--data.regression '{near: mood}'"
    ):
        scheme(tasks, backbone, regression=None)
    with pytest.raises(UserError, match=r"unknown classification task 'sam'.*Did you mean 'same'"):
        scheme(tasks, backbone, regression={"near": "sam"})


def test_stsb_uses_the_scores_of_mrpc_by_default(backbone: str, in_tmp: Path) -> None:
    tasks = [Task.read({"name": "stsb", "texts": ["a"], "range": [0, 5]})]
    tasks += [Task.read({"name": "mrpc", "texts": ["a"], "classes": ["x", "y"]})]
    assert scheme(tasks, backbone, regression=None).regression == {"stsb": "mrpc"}


def test_all_examples_of_a_regression_task_can_have_one_score(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    seen = Recorder()
    fitted(scheme(tasks, backbone, regression={"near": 2.0}), tasks, backbone, seen)
    for batch in seen.batches:  # all 5 or 6 candidates of the task, and at most one of another
        counts = {segment.task: len(segment.ids) for segment in batch.segments}
        assert counts["near"] >= 5
        assert sum(counts.values()) == 6


def test_an_epoch_has_the_batches_of_the_largest_task_times_the_number_of_tasks(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = scheme(tasks, backbone, share=0.5)
    data.setup("fit")
    assert len(data.train_dataloader()) == 8 * 3 * 0.5  # 44 examples in batches of 6


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_without_an_example_to_score_keeps_its_filler(
    rank: int, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = UncertaintyDataModule(tasks=tasks[:1], backbone=backbone, batch_size=1, max_length=16)
    data.setup("fit")
    steps = StepDataset(
        data.order(data.streams()), data.train_splits, ["mood"], {}, "train", 0, rank, 2
    )
    inputs = {
        "training": True,
        "world_size": 2,
        "global_rank": rank,
        "precision_plugin": Precision(),
        "current_epoch": 0,
    }
    data.trainer = cast(
        Any,
        SimpleNamespace(**inputs, lightning_module=MultiHead(tasks=tasks[:1], backbone=backbone)),
    )
    batch = data.on_after_batch_transfer(steps[0], 0)
    assert len(batch.task_ids) == 1
    assert [len(segment.labels) for segment in batch.segments] == [1 - rank]
