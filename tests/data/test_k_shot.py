import gzip
import json
import os
from pathlib import Path

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


def data(tasks: list[Task], backbone: str, stage: str = "fit", **args: object) -> KShotDataModule:
    made = KShotDataModule(
        **{"tasks": tasks, "backbone": backbone, "k": 4, "max_length": 16} | args
    )  # type: ignore[arg-type]
    made.setup(stage)
    return made


def left_out(
    tasks: list[Task], backbone: str, stage: str = "fit", **args: object
) -> LeaveOneOutKShotDataModule:
    args = {"regression": True} | args
    made = LeaveOneOutKShotDataModule(
        "same", k=4, tasks=tasks, backbone=backbone, max_length=16, **args
    )  # type: ignore[arg-type]
    made.setup(stage)
    return made


@pytest.mark.parametrize("task", ["cr", "mpqa", "mr", "subj", "rte", "mrpc", "trec", "sst5"])
@pytest.mark.parametrize("seed", [13, 21, 42, 87, 100])
def test_the_published_draw_of_lm_bff(task: str, seed: int) -> None:
    rows, draw = (
        SHARED / "data" / task / "train.jsonl.gz",
        SHARED / "data/lmbff_kshot" / task / f"16-{seed}",
    )
    if not rows.exists() or not draw.exists():
        pytest.skip("the task's rows and the stored draws of LM-BFF are not here")

    def read(path: Path) -> list[dict[str, object]]:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def texts(found: list[dict[str, object]]) -> set[str]:
        kept = [
            [
                str(row[name])
                for name in ("sentence", "sentence1", "sentence2", "text")
                if name in row
            ]
            for row in found
        ]
        # Letters and digits only: the stored files differ in quoting.
        return {"".join(filter(str.isalnum, " ".join(words).lower())) for words in kept}

    source = read(rows)
    chosen = k_shot(np.array([row["label"] for row in source]), 16, seed)
    for places, name in zip(chosen, ("train", "dev"), strict=True):
        stored = texts(read(draw / f"{name}.jsonl.gz"))
        missing = stored - texts([source[place] for place in places])
        # What remains are letters lost in one of the two files' encodings.
        assert len(missing) <= {"subj": 1, "sst5": 5}.get(task, 0), missing


def test_rows_left_out_leave_the_others_draw_as_it_is() -> None:
    labels = np.arange(40) % 2
    usable = np.setdiff1d(np.arange(40), [3, 17])
    whole, left = k_shot(labels, 4, 13)[0], usable[k_shot(labels[usable], 4, 13, usable, 40)[0]]
    assert set(whole) - {3, 17} <= set(left)
    assert np.bincount(labels[left]).tolist() == [4, 4]


@pytest.mark.parametrize(
    "task",
    ["mr", "cr", "mpqa", "subj", "sst5", "trec", "mrpc", "rte", "stsb", "cola", "qnli", "sst2"],
)
def test_every_stored_draw_of_lm_bff_is_read(task: str, backbone: str, in_tmp: Path) -> None:
    if not (SHARED / "data/lmbff_kshot" / task).exists():
        pytest.skip("the stored draws of LM-BFF are not here")
    file = Path(__file__).parents[2] / f"configs/tasks/{task}.yaml"
    made = data([Task.read(file)], backbone, k=16, draw=13, draws=SHARED / "data/lmbff_kshot")
    assert len(made.train_tables[0]) in range(31 if task == "cr" else 32, 97)


def test_k_of_each_class_and_none_in_both() -> None:
    labels = np.repeat([0, 1, 2], [50, 9, 30])
    train, selecting = k_shot(labels, 4, seed=13)
    assert (
        np.bincount(labels[train]).tolist() == np.bincount(labels[selecting]).tolist() == [4, 4, 4]
    )
    assert not set(train) & set(selecting)


def test_a_class_with_too_few_rows_is_named(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(
        UserError, match=r"task 'mood': .*train.csv: class 0 has 22 rows, where 16 .*--data.k"
    ):
        data(tasks, backbone, k=16)


def test_training_and_selection_rows_come_from_the_training_split(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    made = data(tasks, backbone)
    assert made.sizes == {"mood": 8, "same": 12, "near": 8}
    for place, selecting in enumerate(made.eval_tables):
        assert selecting.path == made.train_tables[place].path
        assert len(selecting) == len(made.train_tables[place])
        assert not set(selecting.numbers) & set(made.train_tables[place].numbers)
    near = made.train_tables[2].labels
    assert (near >= 2.5).sum() == (near < 2.5).sum() == 4


def test_testing_sees_all_test_rows(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    assert [len(table) for table in data(tasks, backbone, "test").eval_tables] == [15, 15, 15]


def test_stored_draws_are_read_as_they_are(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    for name, rows in (("train", "good film,good\nbad film,bad\n"), ("dev", "a good dog,good\n")):
        Path("draws/mood/4-42").mkdir(parents=True, exist_ok=True)
        header = "text,label\n"
        lines = [
            dict(zip(header.strip().split(","), line.split(","), strict=True))
            for line in rows.splitlines()
        ]
        Path(f"draws/mood/4-42/{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = data(tasks[:1], backbone, draws=Path("draws"))
    assert (len(made.train_tables[0]), len(made.eval_tables[0])) == (2, 1)
    with pytest.raises(UserError, match=r"no draw 4-13; it has 4-42"):
        data(tasks[:1], backbone, draws=Path("draws"), draw=13)


def test_the_held_out_task_takes_no_part_in_training_or_selection(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    made = left_out(tasks, backbone)
    assert set(made.sizes) == {"mood", "near"}
    assert {segment.task for batch in made.train_dataloader() for segment in batch.segments} == {
        "mood",
        "near",
    }
    assert {batch.name for loader in made.val_dataloader() for batch in loader} == {"mood", "near"}
    assert [path.name.split("-")[0] for path in made.cache.glob("*.arrow")].count("same") == 0


def test_the_held_out_task_is_tested_on_all_its_rows(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    made = left_out(tasks, backbone, "test")
    batches = [batch for loader in made.test_dataloader() for batch in loader]
    assert {(batch.name, segment.task) for batch in batches for segment in batch.segments} == {
        ("same", "same")
    }
    assert [len(table) for table in made.eval_tables] == [15]


def test_a_task_to_hold_out_must_be_there(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"'moood' is none of the tasks .* Did you mean 'mood'"):
        LeaveOneOutKShotDataModule("moood", tasks=tasks, backbone=backbone)


def test_tasks_are_drawn_alike_whatever_their_size_and_rows_alike_within_a_task() -> None:
    order = RandomTasksOrder(streams([10, 30, 5], 1), picks=10, steps=600, seed=0)
    rows = [
        (draw.task, row)
        for step in range(order.steps)
        for draw in order(0, step)
        for row in draw.examples.tolist()
    ]
    assert len(rows) == 6000
    assert stats.chisquare(np.bincount([task for task, _ in rows])).pvalue > 1e-3
    assert stats.chisquare(np.bincount([row for task, row in rows if task == 1])).pvalue > 1e-3


def test_tasks_of_a_step_may_be_asked_to_differ(
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


def test_regressions_are_evaluated_and_not_trained_on(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    made = left_out(tasks, backbone, regression=False)
    assert set(made.sizes) == {"mood"}
    assert [found.name for found in made.evaluations("test")] == ["same"]
    assert [found.name for found in made.evaluations("fit")] == ["mood"]
    held = LeaveOneOutKShotDataModule("near", k=4, tasks=tasks, backbone=backbone)
    assert [found.name for found in held.evaluations("test")] == ["near"]
    with pytest.raises(UserError, match="beside 'mood' there is no task to train on"):
        LeaveOneOutKShotDataModule("mood", k=4, tasks=[tasks[0], tasks[2]], backbone=backbone)


def test_nothing_is_added_to_k_shot_sets(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    with pytest.raises(UserError, match="k-shot sets are of k rows of each class"):
        data(tasks, backbone, augment={"same": {"swap": 0.5}})
