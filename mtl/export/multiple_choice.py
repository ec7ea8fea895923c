"""Write a multiple choice as an `AutoModelForMultipleChoice`."""

from pathlib import Path

from transformers import AutoModelForMultipleChoice

from mtl.export.backbone import save_tokenizer
from mtl.export.classifier import build_classifier, is_trainable
from mtl.export.extraction import extract_classifier
from mtl.export.transformers_format import ADDED_LAYER, compare_logits, tokenized_samples
from mtl.inference.predictor import Predictor
from mtl.tasks import Task


def write_multiple_choice(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes an `AutoModelForMultipleChoice` with its tokenizer, and compares its logits.

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
    build_classifier(parts).save_pretrained(folder)
    save_tokenizer(predictor, folder, predictor.length_limit(task))
    model = AutoModelForMultipleChoice.from_pretrained(folder)
    tokens = {
        name: values.view(-1, len(task.choices), values.shape[1])
        for name, values in tokenized_samples(folder, predictor, task).items()
    }
    notes = [compare_logits(folder, predictor, task, model, tokens)]
    return notes if is_trainable(parts) else [*notes, ADDED_LAYER]
