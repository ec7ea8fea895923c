from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from mtl.batch import Batch
from mtl.data import (
    KShotDataModule,
    LeaveOneOutKShotDataModule,
    LossProportionalDataModule,
    MultiTaskDataModule,
    ProportionalDataModule,
    RoundRobinDataModule,
    SequentialDataModule,
    UncertaintyDataModule,
    UniformDataModule,
)
from mtl.data.loader import StepDataset
from mtl.errors import UserError
from mtl.tasks import Task

SCHEMES: dict[str, Callable[..., MultiTaskDataModule]] = {
    "round robin": RoundRobinDataModule,
    "mixed": partial(RoundRobinDataModule, mixed=True, rounds="shortest"),
    "sequential": SequentialDataModule,
    "by task": partial(SequentialDataModule, by_task=True),
    "uniform": UniformDataModule,
    "proportional": ProportionalDataModule,
    "uncertainty": partial(UncertaintyDataModule, regression={"near": "same"}, share=0.2),
    "k shot": partial(KShotDataModule, k=5),
    # An interval as long as the epoch, so that one order gives all steps.
    "loss proportional": partial(LossProportionalDataModule, interval=10_000),
    "leave one out": partial(LeaveOneOutKShotDataModule, k=5, held_out="same", steps=20),
}


def opened(
    tasks: list[Task],
    backbone: str,
    stage: str = "fit",
    scheme: str = "round robin",
    **args: object,
) -> MultiTaskDataModule:
    usual: dict[str, object] = {"batch_size": 4, "eval_batch_size": 5, "max_length": 16}
    data = SCHEMES[scheme](tasks=tasks, backbone=backbone, **usual | args)
    data.setup(stage)
    return data


def ids(batches: list[Batch]) -> list[int]:
    return [
        example for batch in batches for part in batch.segments for example in part.ids.tolist()
    ]


def test_a_batch_is_padded_to_its_longest_example(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    for batch in opened(tasks, backbone).train_dataloader():
        assert batch.tokens["attention_mask"].sum(1).max() == batch.tokens["input_ids"].shape[1]
        padding = batch.tokens["input_ids"][batch.tokens["attention_mask"] == 0]
        assert (padding == 0).all()


def test_labels_have_the_type_of_their_task(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    types: dict[str, torch.dtype] = {}
    for batch in opened(tasks, backbone).train_dataloader():
        types |= {segment.task: segment.labels.dtype for segment in batch.segments}
    assert types == {"mood": torch.int64, "same": torch.int64, "near": torch.float32}


def test_evaluation_loaders_give_every_example_of_their_split_once(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = opened(tasks, backbone)
    for loader, table in zip(data.val_dataloader(), data.eval_splits, strict=True):
        assert sorted(ids(list(loader))) == list(range(len(table)))


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_processes_share_every_step_evenly_without_overlap(
    scheme: str, tasks: list[Task], backbone: str, in_tmp: Path, world: int
) -> None:
    data = opened(tasks, backbone, scheme=scheme)
    data.on_interval_start(1, 0)
    order = data.order(data.streams())
    names = [task.name for task in tasks]
    shares = [
        StepDataset(order, data.train_splits, names, {}, "train", 1, rank, world)
        for rank in range(world)
    ]
    for step in range(order.steps):
        batches = [share[step] for share in shares]
        draws = order(1, step)
        drawn = [
            (names[draw.task], example)
            for draw in draws
            for example in data.train_splits[draw.task].numbers[draw.examples].tolist()
        ]
        held = [
            (segment.task, example)
            for batch in batches
            for segment in batch.segments
            for example in segment.ids.tolist()
        ]
        assert sorted(held) == sorted(drawn)
        sizes = [sum(len(segment.ids) for segment in batch.segments) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert all(
            len(batch.task_ids) == max(1, size) for batch, size in zip(batches, sizes, strict=True)
        )  # or a filler
        for batch in batches:
            assert [segment.task for segment in batch.segments] == [
                segment.task for segment in batches[0].segments
            ]
            assert {s.task: s.denominator for s in batch.segments} == {
                names[d.task]: len(d.examples) / world for d in draws
            }


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_batch_holds_as_many_tasks_as_tasks_per_batch_promises(
    scheme: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = opened(tasks, backbone, scheme=scheme)
    order = data.order(data.streams())
    held = {len(order(0, step)) for step in range(order.steps)}
    if scheme == "uncertainty":
        assert held == {3}  # the candidates, from which the model selects
    else:
        assert held == {"one": {1}, "all": {3}}.get(data.tasks_per_batch, held)


def test_grouping_by_length_reduces_padding(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    def padding(group_by_length: bool) -> float:
        data = opened(tasks, backbone, group_by_length=group_by_length)
        masks = [batch.tokens["attention_mask"] for batch in data.train_dataloader()]
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    assert padding(True) < 0.6 * padding(False)


@pytest.mark.parametrize("scheme", ["round robin", "sequential"])
def test_worker_processes_give_the_same_batches(
    scheme: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    without, with_workers = (
        list(opened(tasks, backbone, scheme=scheme, num_workers=workers).train_dataloader())
        for workers in (0, 2)
    )
    assert ids(without) == ids(with_workers)


def test_max_examples_chooses_the_same_examples_in_every_run(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    first, second = (opened(tasks, backbone, max_examples=9, seed=seed) for seed in (1, 2))
    assert first.sizes == {"mood": 9, "same": 9, "near": 9}
    for one, other in zip(first.train_splits.values(), second.train_splits.values(), strict=True):
        assert one.numbers.tolist() == other.numbers.tolist()


def test_another_subset_seed_chooses_other_examples(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    chosen = [
        opened(tasks, backbone, max_examples=9, subset_seed=seed).train_splits[0].numbers.tolist()
        for seed in (0, 1, 1)
    ]
    assert chosen[0] != chosen[1] == chosen[2]


def test_each_task_can_have_its_own_max_examples(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    assert opened(tasks, backbone, max_examples={"same": 9, "near": 12}).sizes == {
        "mood": 44,
        "same": 9,
        "near": 12,
    }
    with pytest.raises(UserError, match="max_examples: unknown task 'smae'.* Did you mean 'same'?"):
        opened(tasks, backbone, max_examples={"smae": 9})


def test_holdout_examples_select_the_checkpoint_and_neither_train_nor_test(
    backbone: str, data_root: Path, in_tmp: Path
) -> None:
    task = Task.read(
        {
            "name": "mood",
            "texts": ["text"],
            "classes": ["bad", "good"],
            "splits": {"test": ["validation"]},
        }
        | {"source": {"path": str(data_root / "mood")}}
    )
    data = opened([task], backbone, holdout=0.25)
    train, selection = data.train_splits[0].numbers.tolist(), data.eval_splits[0].numbers.tolist()
    assert sorted(train + selection) == list(range(44))
    assert len(selection) == 11
    test = opened([task], backbone, "test", holdout=0.25)
    assert test.eval_splits[0].path != data.eval_splits[0].path


def test_a_task_with_two_validation_splits_has_two_evaluations(
    backbone: str, data_root: Path, in_tmp: Path
) -> None:
    splits = {"validation": ["validation_matched", "validation_mismatched"], "test": ["test"]}
    fields = {"name": "mnli", "texts": ["text"], "classes": ["bad", "good"], "splits": splits}
    task = Task.read(fields | {"source": {"path": str(data_root / "mood")}})
    data = RoundRobinDataModule(tasks=[task], backbone=backbone)
    assert [evaluation.name for evaluation in data.evaluations("validate")] == [
        "mnli/matched",
        "mnli/mismatched",
    ]
    assert [evaluation.name for evaluation in data.evaluations("test")] == ["mnli"]
