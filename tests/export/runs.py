"""Run folders as training writes them, made without training."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from mtl.cli.command import parse_arguments
from mtl.cli.export import add_arguments, run
from mtl.methods import MultiTaskModule
from mtl.modules import SAN, Linear, MTBertSAN
from mtl.tasks import Task

# Options of MultiHead.
SAN_HEADS: dict[str, Any] = {"pair_head": SAN()}
MT_BERT_SAN_HEADS: dict[str, Any] = {"pair_head": MTBertSAN()}


def hidden_layers(count: int) -> dict[str, Any]:
    """Options of MultiHead for heads with hidden layers."""
    return {"head": Linear(count)}


def save_run(
    folder: Path, cls: type[MultiTaskModule], tasks: list[Task], backbone: Path | str, **args: Any
) -> Path:
    """Saves a run whose trainable weights all differ from their initialization."""
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
    module.setup("test")
    # Saving checks that the training was finite, and asks the Trainer for the step.
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.on_save_checkpoint(checkpoint)
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    scores = {
        task.name: {"examples": 7, "score": 0.625, "metrics": {"accuracy": 0.625}} for task in tasks
    }
    metrics = {
        "seed": 3,
        "scheme": "RoundRobinDataModule",
        "versions": {"mtl": "0.1.0"},
        "test": {"mean": 0.625, "tasks": scores},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def export(run_folder: Path, out: Path, *options: str) -> Path:
    """Runs `mtl export` in this process, so that its errors are raised."""
    arguments = ["--ckpt_path", str(run_folder), "--out", str(out), *options]
    run(parse_arguments("export", arguments, add_arguments))
    return out
