import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mtl.data import KShotDataModule, LeaveOneOutKShotDataModule
from mtl.data.k_shot import k_shot
from mtl.data.leave_one_out import RandomTasksOrder
from mtl.errors import UserError
from mtl.tasks import Task
from tests.contracts.orders import streams

SHARED = Path(os.environ.get("MTL_SHARED", Path(__file__).parents[3] / "shared"))


def few_shot(tasks: list[Task], backbone: str, stage: str = "fit", **args: Any) -> KShotDataModule:
    usual: dict[str, Any] = {"k": 4, "max_length": 16}
    data = KShotDataModule(tasks=tasks, backbone=backbone, **usual | args)
    data.setup(stage)
    return data


def leave_one_out(
    tasks: list[Task], backbone: str, stage: str = "fit", **args: Any
) -> LeaveOneOutKShotDataModule:
    usual: dict[str, Any] = {"k": 4, "max_length": 16, "regression": True}
    data = LeaveOneOutKShotDataModule("same", tasks=tasks, backbone=backbone, **usual | args)
    data.setup(stage)
    return data


@pytest.mark.parametrize("task", ["cr", "mpqa", "mr", "subj", "rte", "mrpc", "trec", "sst5"])
@pytest.mark.parametrize("seed", [13, 21, 42, 87, 100])
def test_the_published_draw_of_lm_bff(task: str, seed: int) -> None:
    split, draw = (
        SHARED / "data" / task / "train.jsonl.gz",
        SHARED / "data/lmbff_kshot" / task / f"16-{seed}",
    )
    if not split.exists() or not draw.exists():
        pytest.skip("the task's examples and the stored draws of LM-BFF are not available")

    def read(path: Path) -> list[dict[str, object]]:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def texts(records: list[dict[str, object]]) -> set[str]:
        parts = [
            [
                str(row[name])
                for name in ("sentence", "sentence1", "sentence2", "text")
                if name in row
            ]
            for row in records
        ]
        # Letters and digits only: the stored files differ in quoting.
        return {"".join(filter(str.isalnum, " ".join(words).lower())) for words in parts}

    source = read(split)
    chosen = k_shot(np.array([row["label"] for row in source]), 16, seed)
    for indices, name in zip(chosen, ("train", "dev"), strict=True):
        stored = texts(read(draw / f"{name}.jsonl.gz"))
        missing = stored - texts([source[index] for index in indices])
        # The rest differs in letters that were lost in the encoding of one of the two files.
        assert len(missing) <= {"subj": 1, "sst5": 5}.get(task, 0), missing


def test_dropped_examples_do_not_change_the_draw_of_the_others() -> None:
    labels = np.arange(40) % 2
    usable = np.setdiff1d(np.arange(40), [3, 17])
    complete, reduced = (
        k_shot(labels, 4, 13)[0],
        usable[k_shot(labels[usable], 4, 13, usable, 40)[0]],
    )
    assert set(complete) - {3, 17} <= set(reduced)
    assert np.bincount(labels[reduced]).tolist() == [4, 4]


@pytest.mark.parametrize(
    "task",
    ["mr", "cr", "mpqa", "subj", "sst5", "trec", "mrpc", "rte", "stsb", "cola", "qnli", "sst2"],
)
def test_every_stored_draw_of_lm_bff_is_read(task: str, backbone: str, in_tmp: Path) -> None:
    if not (SHARED / "data/lmbff_kshot" / task).exists():
        pytest.skip("the stored draws of LM-BFF are not available")
    file = Path(__file__).parents[2] / f"configs/tasks/{task}.yaml"
    data = few_shot([Task.read(file)], backbone, k=16, draw=13, draws=SHARED / "data/lmbff_kshot")
    assert len(data.train_splits[0]) in range(31 if task == "cr" else 32, 97)


def test_k_examples_of_each_class_are_drawn_without_overlap() -> None:
    labels = np.repeat([0, 1, 2], [50, 9, 30])
    train, selection = k_shot(labels, 4, seed=13)
    assert (
        np.bincount(labels[train]).tolist() == np.bincount(labels[selection]).tolist() == [4, 4, 4]
    )
    assert not set(train) & set(selection)


def test_a_class_with_too_few_examples_is_named(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(
        UserError, match=r"task 'mood': .*train.csv: class 0 has 22 examples, but 16 .*--data.k"
    ):
        few_shot(tasks, backbone, k=16)


def test_training_and_selection_examples_come_from_the_training_split(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = few_shot(tasks, backbone)
    assert data.sizes == {"mood": 8, "same": 12, "near": 8}
    for index, selection in enumerate(data.eval_splits):
        assert selection.path == data.train_splits[index].path
        assert len(selection) == len(data.train_splits[index])
        assert not set(selection.numbers) & set(data.train_splits[index].numbers)
    near = data.train_splits[2].labels
    assert (near >= 2.5).sum() == (near < 2.5).sum() == 4


def test_all_test_examples_are_tested(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    assert [len(table) for table in few_shot(tasks, backbone, "test").eval_splits] == [15, 15, 15]


def test_all_examples_of_a_stored_draw_are_used(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    for name, rows in (("train", "good film,good\nbad film,bad\n"), ("dev", "a good dog,good\n")):
        Path("draws/mood/4-42").mkdir(parents=True, exist_ok=True)
        header = "text,label\n"
        lines = [
            dict(zip(header.strip().split(","), line.split(","), strict=True))
            for line in rows.splitlines()
        ]
        Path(f"draws/mood/4-42/{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = few_shot(tasks[:1], backbone, draws=Path("draws"))
    assert (len(data.train_splits[0]), len(data.eval_splits[0])) == (2, 1)
    with pytest.raises(UserError, match=r"no draw 4-13; it has 4-42"):
        few_shot(tasks[:1], backbone, draws=Path("draws"), draw=13)


def test_the_held_out_task_is_used_neither_for_training_nor_for_selection(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = leave_one_out(tasks, backbone)
    assert set(data.sizes) == {"mood", "near"}
    assert {segment.task for batch in data.train_dataloader() for segment in batch.segments} == {
        "mood",
        "near",
    }
    assert {batch.name for loader in data.val_dataloader() for batch in loader} == {"mood", "near"}
    assert [path.name.split("-")[0] for path in data.cache.glob("*.arrow")].count("same") == 0


def test_the_held_out_task_is_tested_on_all_its_examples(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = leave_one_out(tasks, backbone, "test")
    batches = [batch for loader in data.test_dataloader() for batch in loader]
    assert {(batch.name, segment.task) for batch in batches for segment in batch.segments} == {
        ("same", "same")
    }
    assert [len(table) for table in data.eval_splits] == [15]


def test_the_held_out_task_must_exist(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"held_out: unknown task 'moood'.* Did you mean 'mood'"):
        LeaveOneOutKShotDataModule("moood", tasks=tasks, backbone=backbone)


def test_tasks_and_examples_within_a_task_are_equally_likely() -> None:
    order = RandomTasksOrder(streams([10, 30, 5], 1), picks=10, steps=600, seed=0)
    examples = [
        (draw.task, example)
        for step in range(order.steps)
        for draw in order(0, step)
        for example in draw.examples.tolist()
    ]
    assert len(examples) == 6000
    assert stats.chisquare(np.bincount([task for task, _ in examples])).pvalue > 1e-3
    assert (
        stats.chisquare(np.bincount([example for task, example in examples if task == 1])).pvalue
        > 1e-3
    )


def test_distinct_tasks_draws_different_tasks_in_a_step(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    order = RandomTasksOrder(streams([10, 30, 5, 8], 1), picks=3, steps=900, seed=0, distinct=True)
    steps = [
        [draw.task for draw in order(0, step) for _ in draw.examples] for step in range(order.steps)
    ]
    assert all(len(set(step)) == 3 for step in steps)
    assert stats.chisquare(np.bincount(np.concatenate(steps))).pvalue > 1e-3
    with pytest.raises(
        UserError, match="there are 2 tasks to train on, so give --data.batch_size 2 or less"
    ):
        LeaveOneOutKShotDataModule(
            "same", distinct_tasks=True, regression=True, tasks=tasks, backbone=backbone
        )


def test_regression_tasks_are_tested_but_not_trained_on(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = leave_one_out(tasks, backbone, regression=False)
    assert set(data.sizes) == {"mood"}
    assert [item.name for item in data.evaluations("test")] == ["same"]
    assert [item.name for item in data.evaluations("fit")] == ["mood"]
    held = LeaveOneOutKShotDataModule("near", k=4, tasks=tasks, backbone=backbone)
    assert [item.name for item in held.evaluations("test")] == ["near"]
    with pytest.raises(UserError, match="there is no task to train on except 'mood'"):
        LeaveOneOutKShotDataModule("mood", k=4, tasks=[tasks[0], tasks[2]], backbone=backbone)


def test_augmentation_of_k_shot_sets_is_refused(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(UserError, match="k-shot sets have k examples of each class"):
        few_shot(tasks, backbone, augment={"same": {"swap": 0.5}})
