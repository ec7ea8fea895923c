"""Write the low-rank updates and the head of one task as an adapter of the library peft."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mtl.errors import UserError
from mtl.export.backbone import public_name, save_tokenizer
from mtl.export.classifier import build_classifier
from mtl.export.extraction import ALTERNATIVE, ClassifierParts, frozen_parts, lora_updates
from mtl.export.transformers_format import compare_logits, set_padding, tokenized_samples
from mtl.inference.predictor import Predictor
from mtl.methods import LoRA
from mtl.modules.backbone import load_encoder
from mtl.modules.dora import WeightDecomposed
from mtl.modules.family_table import FAMILIES
from mtl.tasks import MultipleChoice, Task, TokenLabels


def write_peft(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes an adapter, the configuration of the classifier and the tokenizer; compares logits.

    Args:
        predictor: The trained model, a `LoRA`.
        tasks: One task.
        folder: An empty folder.

    Returns:
        Notes for the model card.

    Raises:
        UserError: If the encoder differs from the backbone, or the logits of peft differ.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    (task,) = tasks
    method = cast(LoRA, predictor.module)
    _check(method, task)
    parts, updates = frozen_parts(method, task), lora_updates(method, task)
    classifier = build_classifier(parts)
    set_padding(classifier, parts, predictor, task)
    prefix = classifier.base_model_prefix
    ranks = {f"{prefix}.{name}": update.a.out_features for name, update in updates.items()}
    rank = max(ranks.values())
    config = LoraConfig(
        r=rank,
        rank_pattern={
            f"^{re.escape(name)}": other for name, other in ranks.items() if other != rank
        },
        lora_alpha=cast(Any, method.alpha),  # peft accepts any number
        use_rslora=method.rslora,
        use_dora=method.dora,
        lora_dropout=method.lora_dropout,
        target_modules=list(ranks),
        modules_to_save=_head_modules(parts),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in classifier.modules()),
        inference_mode=True,
    )
    with _quiet():
        adapter: Any = get_peft_model(classifier, config)
    with torch.no_grad():
        for name, update in updates.items():
            layer = adapter.base_model.model.get_submodule(f"{prefix}.{name}")
            layer.lora_A["default"].weight.copy_(update.a.weight)
            layer.lora_B["default"].weight.copy_(update.b.weight)
            if isinstance(update, WeightDecomposed):
                layer.lora_magnitude_vector["default"].weight.copy_(update.lengths())
    config.base_model_name_or_path = public_name(method.backbone_name)
    # Otherwise peft asks the hub for the size of the vocabulary.
    adapter.save_pretrained(folder, save_embedding_layers=False)
    classifier.config.save_pretrained(folder)
    save_tokenizer(predictor, folder, predictor.length_limit(task), task.truncation)
    with _quiet():
        loaded = PeftModel.from_pretrained(_base_model(predictor, folder), str(folder))
    tokens = tokenized_samples(folder, predictor, task)
    return [
        compare_logits(folder, predictor, task, cast(Any, loaded), tokens),
        f"The adapter is for the weights of {public_name(method.backbone_name)}.",
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: peft 0.21 reads an attribute that transformers 5 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        yield


def _check(method: LoRA, task: Task) -> None:
    if isinstance(task.kind, TokenLabels | MultipleChoice):
        raise UserError(
            f"--format peft: task {task.name!r} is a {task.kind.name} task, which this format does "
            "not support; export it with --format transformers"
        )
    encoder = method.encoder
    pretrained, _ = load_encoder(method.backbone_name, pooler=encoder.pooling == "pooler")
    weights = encoder.backbone.state_dict()
    if any(
        not torch.equal(value, weights[name]) for name, value in pretrained.state_dict().items()
    ):
        raise UserError(
            f"--format peft: the encoder's weights are not those of {method.backbone_name}, "
            "because they were trained as well (--model.freeze false) or loaded from another run; "
            "export it with --format transformers"
        )


def _head_modules(parts: ClassifierParts) -> list[str]:
    """Names of the classifier's modules after the encoder."""
    layout = FAMILIES[parts.config.model_type].classifier
    if layout is None:  # `build_classifier` has refused it
        raise UserError(ALTERNATIVE)
    return [name for name in (layout.dense, layout.norm, layout.out) if name is not None]


def _base_model(predictor: Predictor, folder: Path) -> PreTrainedModel:
    """The classifier as a user of the adapter loads it: the backbone, and a new head."""
    config = AutoConfig.from_pretrained(folder)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    encoder = cast(LoRA, predictor.module).encoder.backbone
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)
    return model
