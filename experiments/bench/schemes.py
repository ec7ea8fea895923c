"""The sampling schemes as configs/ has them, on any tasks: what the benchmarks of sampling share."""

from pathlib import Path
from typing import Any

import yaml

import mtl.data
from mtl.data import MultiTaskDataModule
from mtl.data.loader import StepDataset
from mtl.tasks import Task

SAMPLING = Path("configs/sampling")
# Schemes whose batches are drawn from the whole training rows without a model.
PLAIN = ("round_robin", "mixed", "sequential", "by_task", "uniform", "proportional", "square_root")


def suite_tasks(suite: Path) -> list[Task]:
    """The tasks that a suite's file lists."""
    return [
        Task.read(suite.parent / name)
        for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]
    ]


def scheme(name: str, **args: Any) -> MultiTaskDataModule:
    """A scheme by its file's name, with its training rows opened."""
    wanted = yaml.safe_load((SAMPLING / f"{name}.yaml").read_text(encoding="utf-8"))["data"]
    data: MultiTaskDataModule = getattr(mtl.data, wanted["class_path"])(
        **wanted.get("init_args", {}) | args
    )
    data.setup("fit")
    return data


def steps_of(data: MultiTaskDataModule) -> StepDataset:
    """The batches of its first epoch, each at its place."""
    padding = {
        "input_ids": int(data.tokenizer.pad_token_id),
        "token_type_ids": int(data.tokenizer.pad_token_type_id),
    }
    order = data.order(data.streams())
    return StepDataset(
        order, data.train_tables, [task.name for task in data.tasks], padding, "train"
    )
