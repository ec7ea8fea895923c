"""Write a task of token labels as an `AutoModelForTokenClassification`."""

import copy
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from mtl.errors import UserError
from mtl.export.backbone import save_tokenizer
from mtl.export.extraction import ALTERNATIVE, ClassifierParts, extract_classifier
from mtl.export.transformers_format import compare_logits, tokenized_samples
from mtl.inference.predictor import Predictor
from mtl.tasks import Task
from mtl.tasks.token_labels import TokenLabels


def write_token_classifier(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes an `AutoModelForTokenClassification` with its tokenizer, and compares its logits.

    Args:
        predictor: The trained model.
        tasks: One task.
        folder: An empty folder.

    Returns:
        Notes for the model card.

    Raises:
        UserError: If the model does not fit into a class of transformers, or the logits differ.
    """
    (task,) = tasks
    if cast(TokenLabels, task.kind).overlap is not None:
        raise UserError(
            f"task {task.name!r}: window_overlap: models of transformers do not divide long texts "
            f"into windows; {ALTERNATIVE}"
        )
    parts = extract_classifier(predictor.module, task)
    build_token_classifier(parts).save_pretrained(folder)
    save_tokenizer(predictor, folder, predictor.length_limit(task), task.truncation)
    model = AutoModelForTokenClassification.from_pretrained(folder)
    tokens = tokenized_samples(folder, predictor, task)
    return [
        compare_logits(folder, predictor, task, model, tokens),
        "A word has the tag of its first token: in a pipeline, choose the aggregation strategy "
        "`first`.",
    ]


def build_token_classifier(parts: ClassifierParts) -> PreTrainedModel:
    """Builds a model of transformers that computes the same logits.

    Raises:
        UserError: If the model family has no class that can compute them.
    """
    config = copy.deepcopy(parts.config)
    config.dtype = torch.float32
    config.id2label = dict(enumerate(parts.labels))
    config.label2id = {label: index for index, label in enumerate(parts.labels)}
    try:
        model: PreTrainedModel = AutoModelForTokenClassification.from_config(config)
    except ValueError as error:
        raise UserError(
            f"transformers has no token classifier for {config.model_type}; {ALTERNATIVE}"
        ) from error
    layer = getattr(model, "classifier", None) or getattr(model, "score", None)
    if not isinstance(layer, nn.Linear) or hasattr(model, "head") or len(parts.head) > 1:
        raise UserError(
            f"transformers' token classifier for {config.model_type} cannot hold a head with "
            f"{len(parts.head) - 1} hidden layers; {ALTERNATIVE}"
        )
    model.base_model.load_state_dict(parts.weights, strict=False)
    layer.load_state_dict({"weight": parts.head[0].weight, "bias": parts.head[0].bias})
    return model.eval()
