"""Write a trained model in mtl's native format, with all of its tasks."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtl.export.backbone import backbone_config, public_name, save_tokenizer
from mtl.export.verification import (
    check_difference,
    double_precision_logits,
    sample_batch,
    sample_examples,
)
from mtl.inference.loading import inference_arguments
from mtl.inference.native_format import BACKBONE, write_exported
from mtl.inference.predictor import Predictor
from mtl.tasks import Task
from mtl.training.run_folder import METRICS


def write_native(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes the native format, reads it again, and compares the logits of all tasks.

    Args:
        predictor: The trained model.
        tasks: The tasks.
        folder: An empty folder.

    Returns:
        Notes for the model card.

    Raises:
        UserError: If the logits differ.
    """
    method = predictor.module
    write_exported(folder, method, _manifest(predictor))
    copy.deepcopy(backbone_config(method)).save_pretrained(folder / BACKBONE)
    save_tokenizer(predictor, folder / BACKBONE, predictor.max_length)
    if predictor.metrics:
        metrics = predictor.metrics | {"backbone": public_name(method.backbone_name)}
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    reloaded = Predictor(folder, device="cpu")
    largest = 0.0
    for task in tasks:
        trained, exported = (
            double_precision_logits(each.module, sample_batch(each, task))
            for each in (predictor, reloaded)
        )
        name = f"{folder.stem}, task {task.name!r}"
        largest = max(largest, check_difference(name, exported, trained))
    count = len(sample_examples(tasks[0]))
    return [
        "Largest difference between the logits of this export and of the trained model: "
        f"{largest:.1e} ({count} examples per task, double precision)."
    ]


def _manifest(predictor: Predictor) -> dict[str, Any]:
    """The contents of `mtl.json`, without anything that refers to this machine."""
    method = predictor.module
    arguments = inference_arguments(dict(method.hparams))
    arguments["tasks"] = [_public_fields(task) for task in predictor.tasks.values()]
    if "scores" in arguments:
        arguments["scores"] = "none"  # they weight examples in training only
    arguments["backbone"] = public_name(method.backbone_name)
    return {
        "class_path": _class_path(method),
        "arguments": arguments,
        "max_length": predictor.max_length,
        "encoding": _class_path(predictor.encoding),
        "encoding_arguments": dict(vars(predictor.encoding)),
        "temperatures": method.temperatures,
    }


def _class_path(instance: object) -> str:
    cls = type(instance)
    return f"{cls.__module__}.{cls.__qualname__}"


def _public_fields(task: Task) -> dict[str, Any]:
    fields = asdict(task)
    fields["source"]["path"] = None
    return fields
