"""Describes a run for `metrics.json` and for TensorBoard."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mtl.callbacks.group_accuracy import group_accuracies
from mtl.callbacks.typed_trainer import datamodule_of, method_of
from mtl.data import MultiTaskDataModule
from mtl.system.provenance import provenance


def describe_run(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Method, scheme, backbone, seed, tasks, versions, code, data and device of a run."""
    method, data = method_of(module), datamodule_of(trainer)
    return {
        "method": type(method).__name__,
        "scheme": type(data).__name__,
        "backbone": method.backbone_name,
        "seed": data.seed,
        "tasks": {
            task.name: {"version": task.version, "metrics": task.metrics} for task in method.tasks
        },
        **provenance(),
        "data": data.fingerprints,
        "device": str(method.device),
        "precision": str(trainer.precision),
        # Encoder passes that predict all tasks of a text.
        "encoder_passes": len(method.tasks) if method.encoder_is_task_specific else 1,
        "processes": trainer.world_size,
    }


def scalar_hparams(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """The hyper-parameters that are a number, a string or a flag, for TensorBoard's table."""
    method, data = method_of(module), datamodule_of(trainer)
    hparams = {
        name: value
        for name, value in {**data.hparams, **method.hparams}.items()
        if isinstance(value, str | int | float) and name[0] != "_"
    }
    hparams |= {"method": type(method).__name__, "scheme": type(data).__name__}
    return hparams | {"tasks": " ".join(task.name for task in method.tasks)}


def current_scores(module: LightningModule, best: bool = False) -> dict[str, Any]:
    """The results of the last evaluation, as in `metrics.json`.

    Args:
        module: The method.
        best: Whether to return those of the checkpoint that would be written now, which may hold
            each task's best modules.
    """
    method = method_of(module)
    results = method.results if best else method.latest
    mean = method.run_score(results) if results else math.nan
    scores: dict[str, Any] = {"mean": mean, "tasks": results}
    data = method.scheme
    if results is method.latest:  # else the tasks' results are of several validations
        groups = group_accuracies(method.predictions, data.tasks, data.groups)
        scores |= {"all_correct": groups} if groups else {}
    return scores | ({"score": method.score.text} if method.score else {})


def parameter_counts(module: LightningModule) -> dict[str, int]:
    """The number of parameters: all, and those that are trained."""
    parameters = list(module.parameters())
    return {
        "total": sum(parameter.numel() for parameter in parameters),
        "trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }


def selected_on_test(data: MultiTaskDataModule) -> list[str]:
    """Names of the tasks whose test examples also select the checkpoint."""
    return [
        task.name
        for task in data.tasks
        if not data.uses_holdout(task) and set(task.splits.test) & set(task.splits.validation)
    ]
