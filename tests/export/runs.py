"""Runs as training leaves them, without the training: a checkpoint of random weights, and its metrics."""

import json
from pathlib import Path
from typing import Any

import torch

from mtl.methods import MultiTaskModule
from mtl.tasks import Task


def save_run(
    folder: Path, cls: type[MultiTaskModule], tasks: list[Task], backbone: Path | str, **args: Any
) -> Path:
    """A run's folder with a checkpoint of a method whose every weight has moved from where it started."""
    torch.manual_seed(1)
    module = cls(tasks=tasks, backbone=str(backbone), **args)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    encoding = (
        "mtl.data.encoding.Prompted" if "Prompt" in cls.__name__ else "mtl.data.encoding.Plain"
    )
    checkpoint: dict[str, Any] = {
        "hyper_parameters": dict(module.hparams),
        "datamodule_hyper_parameters": {"max_length": 24, "encoding": {"class_path": encoding}},
        "state_dict": module.state_dict(),
    }
    module._frozen_digest = module._digest_of_frozen()
    module.on_save_checkpoint(checkpoint)
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    scores = {
        task.name: {"rows": 7, "score": 0.625, "metrics": {"accuracy": 0.625}} for task in tasks
    }
    metrics = {
        "seed": 3,
        "scheme": "RoundRobinDataModule",
        "versions": {"mtl": "0.1.0"},
        "test": {"mean": 0.625, "tasks": scores},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
