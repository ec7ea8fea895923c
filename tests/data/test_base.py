from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from mtl.batch import Batch
from mtl.data import (
    KShotDataModule,
    LeaveOneOutKShotDataModule,
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
    "leave one out": partial(LeaveOneOutKShotDataModule, k=5, held_out="same", steps=20),
}


def module(
    tasks: list[Task],
    backbone: str,
    stage: str = "fit",
    scheme: str = "round robin",
    **args: object,
) -> MultiTaskDataModule:
    data = SCHEMES[scheme](
        **{
            "tasks": tasks,
            "backbone": backbone,
            "batch_size": 4,
            "eval_batch_size": 5,
            "max_length": 16,
        }
        | args
    )
    data.setup(stage)
    return data


def ids(batches: list[Batch]) -> list[int]:
    return [row for batch in batches for segment in batch.segments for row in segment.ids.tolist()]


def test_a_batch_is_padded_to_its_longest_row_only(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    for batch in module(tasks, backbone).train_dataloader():
        assert batch.tokens["attention_mask"].sum(1).max() == batch.tokens["input_ids"].shape[1]
        padding = batch.tokens["input_ids"][batch.tokens["attention_mask"] == 0]
        assert (padding == 0).all()


def test_labels_keep_their_own_type(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    types: dict[str, torch.dtype] = {}
    for batch in module(tasks, backbone).train_dataloader():
        types |= {segment.task: segment.labels.dtype for segment in batch.segments}
    assert types == {"mood": torch.int64, "same": torch.int64, "near": torch.float32}


def test_evaluation_sees_every_row_once_in_a_loader_for_each_split(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = module(tasks, backbone)
    for loader, table in zip(data.val_dataloader(), data.eval_tables, strict=True):
        assert sorted(ids(list(loader))) == list(range(len(table)))


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_processes_share_every_step_without_overlap_and_take_as_many(
    scheme: str, tasks: list[Task], backbone: str, in_tmp: Path, world: int
) -> None:
    data = module(tasks, backbone, scheme=scheme)
    order = data.order(data.streams())
    names = [task.name for task in tasks]
    shares = [
        StepDataset(order, data.train_tables, names, {}, "train", 1, rank, world)
        for rank in range(world)
    ]
    for step in range(order.steps):
        batches = [share[step] for share in shares]
        draws = order(1, step)
        drawn = [
            (names[draw.task], row)
            for draw in draws
            for row in data.train_tables[draw.task].numbers[draw.examples].tolist()
        ]
        held = [
            (segment.task, row)
            for batch in batches
            for segment in batch.segments
            for row in segment.ids.tolist()
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
def test_a_batch_holds_as_many_tasks_as_its_scheme_says(
    scheme: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = module(tasks, backbone, scheme=scheme)
    order = data.order(data.streams())
    held = {len(order(0, step)) for step in range(order.steps)}
    if scheme == "uncertainty":
        assert held == {3}  # the candidates; of these the model chooses some
    else:
        assert held == {"one": {1}, "all": {3}}.get(data.tasks_per_batch, held)


def test_rows_that_meet_are_of_similar_length(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    def padding(group_by_length: bool) -> float:
        data = module(tasks, backbone, group_by_length=group_by_length)
        masks = [batch.tokens["attention_mask"] for batch in data.train_dataloader()]
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    assert padding(True) < 0.6 * padding(False)


@pytest.mark.parametrize("scheme", ["round robin", "sequential"])
def test_workers_change_nothing(
    scheme: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    alone, helped = (
        list(module(tasks, backbone, scheme=scheme, num_workers=workers).train_dataloader())
        for workers in (0, 2)
    )
    assert ids(alone) == ids(helped)


def test_a_part_of_the_rows_is_the_same_in_every_run(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    first, second = (module(tasks, backbone, max_examples=9, seed=seed) for seed in (1, 2))
    assert first.sizes == {"mood": 9, "same": 9, "near": 9}
    for one, other in zip(first.train_tables.values(), second.train_tables.values(), strict=True):
        assert one.numbers.tolist() == other.numbers.tolist()


def test_each_task_may_have_its_own_number_of_rows(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    assert module(tasks, backbone, max_examples={"same": 9, "near": 12}).sizes == {
        "mood": 44,
        "same": 9,
        "near": 12,
    }
    with pytest.raises(
        UserError, match="max_examples: 'smae' is none of the tasks .* Did you mean 'same'?"
    ):
        module(tasks, backbone, max_examples={"smae": 9})


def test_held_out_rows_select_and_neither_train_nor_test(
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
    data = module([task], backbone, holdout=0.25)
    train, selecting = data.train_tables[0].numbers.tolist(), data.eval_tables[0].numbers.tolist()
    assert sorted(train + selecting) == list(range(44))
    assert len(selecting) == 11
    test = module([task], backbone, "test", holdout=0.25)
    assert test.eval_tables[0].path != data.eval_tables[0].path


def test_a_task_of_two_splits_has_two_named_evaluations(
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
