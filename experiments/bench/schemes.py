"""The sampling schemes of configs/, on any tasks: shared by the benchmarks of sampling."""

from pathlib import Path
from typing import Any

import yaml

import mtl.data
from mtl.data import MultiTaskDataModule
from mtl.data.loader import StepDataset
from mtl.tasks import Task

SAMPLING = Path("configs/sampling")
# Schemes that draw from all training examples, without a model.
PLAIN = ("round_robin", "mixed", "sequential", "by_task", "uniform", "proportional", "square_root")


def suite_tasks(suite: Path) -> list[Task]:
    """The tasks that a suite's file lists."""
    names = yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]
    return [Task.read(suite.parent / name) for name in names]


def scheme(name: str, **args: Any) -> MultiTaskDataModule:
    """A scheme by its file's name, with its training splits open."""
    config = yaml.safe_load((SAMPLING / f"{name}.yaml").read_text(encoding="utf-8"))["data"]
    cls = getattr(mtl.data, config["class_path"])
    data: MultiTaskDataModule = cls(**config.get("init_args", {}) | args)
    data.setup("fit")
    return data


def steps_of(data: MultiTaskDataModule) -> StepDataset:
    """The batches of the scheme's first epoch, by step."""
    padding = {
        "input_ids": int(data.tokenizer.pad_token_id),
        "token_type_ids": int(data.tokenizer.pad_token_type_id),
    }
    order = data.order(data.streams())
    names = [task.name for task in data.tasks]
    return StepDataset(order, data.train_splits, names, padding, "train")
