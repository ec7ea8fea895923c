"""The formats that a trained model can be exported to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtl.errors import UserError
from mtl.export.extraction import is_extractable, why_not_extractable
from mtl.export.multiple_choice import write_multiple_choice
from mtl.export.native import write_native
from mtl.export.peft_format import write_peft
from mtl.export.token_classifier import write_token_classifier
from mtl.export.transformers_format import write_classifier, write_language_model
from mtl.export.usage import (
    causal_lm_usage,
    classifier_usage,
    masked_lm_usage,
    multiple_choice_usage,
    native_usage,
    peft_usage,
    token_classifier_usage,
)
from mtl.inference.predictor import Predictor
from mtl.methods import LoRA, MultiTaskModule, PromptBasedFineTuning
from mtl.modules.backbone_checks import is_causal
from mtl.tasks import MultipleChoice, Task, TokenLabels


@dataclass(frozen=True)
class ExportFormat:
    """A format of exported models.

    Attributes:
        loader: What loads the directory.
        library: Name of that library, for the model card.
        pipeline_tag: What the model does, in the words of the hub.
        write: Writes the export of some tasks to an empty folder; returns notes for the model card.
        usage: How to predict a task with the export, in Markdown.
        all_tasks: Whether the export holds all tasks of the model, or one.
    """

    loader: str
    library: str
    pipeline_tag: str
    write: Callable[[Predictor, list[Task], Path], list[str]]
    usage: Callable[[Predictor, Task], str]
    all_tasks: bool = False


CLASSIFIER = ExportFormat(
    "AutoModelForSequenceClassification",
    "transformers",
    "text-classification",
    write_classifier,
    classifier_usage,
)
TOKEN_CLASSIFIER = ExportFormat(
    "AutoModelForTokenClassification",
    "transformers",
    "token-classification",
    write_token_classifier,
    token_classifier_usage,
)
MULTIPLE_CHOICE = ExportFormat(
    "AutoModelForMultipleChoice",
    "transformers",
    "multiple-choice",
    write_multiple_choice,
    multiple_choice_usage,
)
MASKED_LM = ExportFormat(
    "AutoModelForMaskedLM", "transformers", "fill-mask", write_language_model, masked_lm_usage
)
CAUSAL_LM = ExportFormat(
    "AutoModelForCausalLM", "transformers", "text-generation", write_language_model, causal_lm_usage
)
PEFT = ExportFormat("peft.PeftModel", "peft", "text-classification", write_peft, peft_usage)
NATIVE = ExportFormat(
    "mtl.load", "mtl", "text-classification", write_native, native_usage, all_tasks=True
)


def transformers_format(method: MultiTaskModule) -> ExportFormat | None:
    """The format for transformers that a method has; None if it has none."""
    if type(method) is PromptBasedFineTuning:
        return CAUSAL_LM if is_causal(method.encoder.model.config) else MASKED_LM
    return CLASSIFIER if is_extractable(method) else None


def choose_format(predictor: Predictor, name: str | None) -> ExportFormat:
    """The format to export a model to.

    Args:
        predictor: The trained model.
        name: `transformers`, `peft` or `mtl`. Default: `transformers` if there is such a format for
            the method, else `mtl`.

    Raises:
        UserError: If the method has no format for transformers, with the reason.
    """
    if name == "mtl":
        return NATIVE
    if name == "peft":
        if type(predictor.module) is not LoRA:
            raise UserError(
                f"--format peft is for the method LoRA, not {type(predictor.module).__name__}"
            )
        return PEFT
    chosen = transformers_format(predictor.module)
    if chosen is None and name == "transformers":
        raise UserError(why_not_extractable(predictor.module))
    return chosen or NATIVE


def format_of_task(chosen: ExportFormat, task: Task) -> ExportFormat:
    """The format of a task's export: labels of words and multiple choice have their own."""
    formats = {TokenLabels: TOKEN_CLASSIFIER, MultipleChoice: MULTIPLE_CHOICE}
    if chosen is CLASSIFIER:
        for kind, own in formats.items():
            if isinstance(task.kind, kind):
                return own
    return chosen


def choose_tasks(predictor: Predictor, name: str | None, chosen: ExportFormat) -> list[Task]:
    """The tasks to export, the named one first.

    Args:
        predictor: The trained model.
        name: Name of a task, if given.
        chosen: The format.

    Raises:
        UserError: If there is no such task, or the format needs one and several could be meant.
    """
    named = [] if name is None else [predictor.task(name)]
    if chosen.all_tasks:
        return named + [task for task in predictor.tasks.values() if task not in named]
    if not named and len(predictor.tasks) > 1:
        raise UserError(
            f"an export for {chosen.library} has one task; choose one with --task "
            f"{' or '.join(predictor.tasks)}"
        )
    return named or list(predictor.tasks.values())


def calibration_notes(
    predictor: Predictor, tasks: list[Task], export_format: ExportFormat, onnx: bool
) -> list[str]:
    """Notes on temperatures that the logits of an export do not contain.

    Args:
        predictor: The trained model.
        tasks: The tasks of the export.
        export_format: Its format.
        onnx: Whether it has an ONNX graph.
    """
    in_graph = list(predictor.tasks) if onnx else []
    exported = [] if export_format.all_tasks else [task.name for task in tasks]
    return [
        f"Task {name!r} is calibrated: divide its logits by {temperature:.4f} before the softmax"
        + (" (ONNX only)." if name not in exported else ".")
        for name, temperature in predictor.module.temperatures.items()
        if name in exported or name in in_graph
    ]
