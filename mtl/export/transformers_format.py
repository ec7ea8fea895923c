"""Write one task of a trained model as a directory that transformers loads without mtl."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from mtl.data.choice_encoding import choice_pairs
from mtl.errors import UserError
from mtl.export.backbone import save_tokenizer
from mtl.export.classifier import build_classifier, is_trainable
from mtl.export.extraction import ALTERNATIVE, ClassifierParts, extract_classifier
from mtl.export.masked_lm import build_language_model
from mtl.export.verification import (
    check_difference,
    double_precision_logits,
    sample_batch,
    sample_examples,
)
from mtl.inference.predictor import Predictor
from mtl.methods import PromptBasedFineTuning
from mtl.modules.backbone import language_model_class
from mtl.modules.losses import Loss
from mtl.modules.multi_label_losses import BinaryCrossEntropy
from mtl.modules.prompt_losses import Interpolation
from mtl.tasks import Prompt, Task

ADDED_LAYER = (
    "The trained head is linear in the pooled vector, but this class of transformers has an "
    "additional layer. The weights of that layer were chosen such that it passes the logits on "
    "unchanged. Use the model in fp32 or bf16 (not fp16), and not for further training."
)
# Tolerance in fp32, relative to the largest logit.
TOLERANCE_FP32 = 1e-5


def write_classifier(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes an `AutoModelForSequenceClassification` with its tokenizer, and compares its logits.

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
    parts = extract_classifier(predictor.module, task)
    classifier = build_classifier(parts)
    set_padding(classifier, parts, predictor, task)
    classifier.save_pretrained(folder)
    save_tokenizer(predictor, folder, predictor.length_limit(task), task.truncation)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    notes = [
        compare_logits(folder, predictor, task, model, tokenized_samples(folder, predictor, task))
    ]
    if not is_trainable(parts):
        notes.append(ADDED_LAYER)
    loss = predictor.module.loss_functions[task.name]
    if isinstance(loss, BinaryCrossEntropy):
        notes.append(
            "Each logit is a binary decision. The probability of a class is the sigmoid of its "
            "logit, and it is predicted from 0.5; a tuned threshold is part of the bias."
        )
    elif parts.problem_type == "multi_label_classification":
        notes.append(
            "Each logit is a binary decision (one class against the rest). The probability of a "
            "class is the sigmoid of its logit, divided by the sum of the sigmoids of all logits."
        )
    return notes


def set_padding(
    classifier: PreTrainedModel, parts: ClassifierParts, predictor: Predictor, task: Task
) -> None:
    """Configures the padding token, by which classes for causal models find a text's last token.

    Args:
        classifier: The model that is exported.
        parts: What it was built from.
        predictor: The trained model.
        task: The task.

    Raises:
        UserError: If texts end with that token.
    """
    if parts.pooling != "last":
        return
    padding = predictor.tokenizer.pad_token_id
    ids, mask = (
        sample_batch(predictor, task).tokens[name] for name in ("input_ids", "attention_mask")
    )
    last = ids[torch.arange(len(ids)), mask.sum(1) - 1]
    if (last == padding).any():
        raise UserError(
            f"{predictor.module.backbone_name}: its tokenizer ends texts with "
            f"{predictor.tokenizer.pad_token!r}, the padding token, which transformers' classifier "
            f"skips; {ALTERNATIVE}"
        )
    classifier.config.pad_token_id = int(padding)


def write_language_model(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes a language model and its tokenizer; compares the logits of the label words.

    Arguments, return value and errors are those of `write_classifier`.
    """
    (task,) = tasks
    method, prompt = cast(PromptBasedFineTuning, predictor.module), cast(Prompt, task.prompt)
    model = build_language_model(method.encoder)
    model.save_pretrained(folder)
    save_tokenizer(predictor, folder, predictor.length_limit(task))
    model = language_model_class(model.config).from_pretrained(folder)
    words = method.words.get_buffer(task.name)
    tokens = dict(sample_batch(predictor, task).tokens)
    examples = torch.arange(len(tokens["input_ids"]))
    masks = tokens.pop("mask_position").long()

    def label_word_logits(logits: Tensor) -> Tensor:
        return logits[examples, masks][:, words]

    difference = compare_logits(folder, predictor, task, model, tokens, label_word_logits)
    label_tokens = predictor.tokenizer.convert_ids_to_tokens(words.tolist())
    label_words = ", ".join(
        f"{label}: `{token}`" for label, token in zip(prompt.words, label_tokens, strict=True)
    )
    return [
        difference,
        f"Template: `{prompt.template}`.",
        f"Label words: {label_words}. {_meaning_of_words(method.loss_functions[task.name])}",
    ]


def tokenized_samples(folder: Path, predictor: Predictor, task: Task) -> dict[str, Tensor]:
    """The sample examples, encoded with the exported tokenizer.

    Raises:
        UserError: If the trained model encodes them differently.
    """
    examples = sample_examples(task)
    columns = (
        choice_pairs(examples, len(task.choices))
        if task.choices
        else [list(column) for column in zip(*examples, strict=True)]
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = dict(tokenizer(*columns, truncation=True, padding=True, return_tensors="pt"))
    if not torch.equal(tokens["input_ids"], sample_batch(predictor, task).tokens["input_ids"]):
        encoding = type(predictor.encoding).__name__
        raise UserError(
            f"{folder.stem}: the exported tokenizer gives other token ids than the encoding "
            f"{encoding} of the trained model; export it with --format mtl"
        )
    return tokens


@torch.no_grad()
def compare_logits(
    folder: Path,
    predictor: Predictor,
    task: Task,
    model: PreTrainedModel,
    tokens: dict[str, Tensor],
    select: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> str:
    """Compares a model of transformers with the trained model, in fp32 and in double precision.

    Args:
        folder: The folder of the export.
        predictor: The trained model.
        task: The task.
        model: The exported model.
        tokens: Its inputs.
        select: Selects the task's logits from the output of the model.

    Returns:
        A note with the largest differences.

    Raises:
        UserError: If the logits differ.
    """
    batch = sample_batch(predictor, task)
    logits = predictor.module(batch)[task.name]
    trained = predictor.module.thresholds.shifted(task.name, logits)
    exported = select(model.eval()(**tokens).logits)
    tolerance = TOLERANCE_FP32 * max(1, float(trained.abs().max()))
    fp32 = check_difference(f"{folder.stem}, in fp32", exported, trained, tolerance)
    exact = check_difference(
        f"{folder.stem}, task {task.name!r}",
        select(model.double()(**tokens).logits),
        double_precision_logits(predictor.module, batch),
    )
    return (
        "Largest difference between the logits of this export and of the trained model: "
        f"{fp32:.1e} in fp32, {exact:.1e} in double precision ({len(trained)} examples)."
    )


def _meaning_of_words(loss: Loss) -> str:
    """How predictions follow from the logits of the label words."""
    if isinstance(loss, Interpolation):
        return (
            f"The value is {loss.low:g} + {loss.high - loss.low:g} * p, where p is the probability "
            "of the second word in the softmax over the logits of the two words at that position."
        )
    return "The class probabilities are the softmax over these logits."
