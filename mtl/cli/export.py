"""`mtl export`: a run's model as a directory that others load."""

import argparse
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from mtl.cli.lightning import report_user_errors
from mtl.errors import UserError
from mtl.export.classifier import classifier, fits_unchanged
from mtl.export.extraction import kind, parts
from mtl.export.masked_lm import masked_lm
from mtl.export.model_card import model_card, public_name
from mtl.export.native import BACKBONE, write_exported
from mtl.export.verification import batch_of, logits_of, refuse_differing, texts_of
from mtl.inference.predictor import OF_TRAINING, Predictor
from mtl.methods import PromptBasedFineTuning
from mtl.modules.backbone import load_tokenizer, quiet
from mtl.modules.losses import Binary
from mtl.tasks import Task
from mtl.training.run_folder import METRICS


def export(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: What stands after `mtl export`.

    Raises:
        UserError: If the run cannot be exported in the format wanted, or the export differs from it.
    """
    given = _parser().parse_args(words)
    out = Path(given.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already; give another folder, or delete this one")
    if given.onnx and (
        missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
    ):
        raise UserError(f"--onnx needs {missing[0]}: pip install 'mtl[onnx]'")
    if given.push:
        from mtl.export.hub_upload import check_name

        check_name(given.push)
    trained = Predictor(given.ckpt_path, device="cpu")
    form = kind(trained.module) if given.format is None else given.format
    if given.format == "transformers":
        form = kind(trained.module)
        if form == "mtl":
            parts(trained.module, next(iter(trained.tasks.values())))  # says why not
    tasks = _asked(trained, given.task, form)
    with whole_or_not(out) as folder, quiet():
        notes = WRITERS[form](trained, tasks, folder)
        if given.onnx:
            from mtl.export.onnx import write_onnx

            notes += write_onnx(trained, tasks, folder)
        (folder / "README.md").write_text(model_card(trained, form, tasks, notes), encoding="utf-8")
    print(f"{out}: {SAYS[form]}")
    print("\n".join(notes))
    if given.push:
        from mtl.export.hub_upload import upload

        print(f"pushed: {upload(out, given.push)}")


SAYS = {
    "classifier": "for AutoModelForSequenceClassification",
    "masked_lm": "for AutoModelForMaskedLM",
    "mtl": "for mtl.load",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "mtl export",
        description="A run's model as a directory: weights as safetensors, tokenizer, label names and a model card. Its "
        "logits are held against the run's on a few rows before it gets its name.",
    )
    parser.add_argument(
        "--ckpt_path",
        required=True,
        metavar="RUN",
        help="a run's folder (its best checkpoint), or a checkpoint",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="which task's classifier; needed where the run has several"
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="the directory, which must not be there yet"
    )
    parser.add_argument(
        "--format",
        choices=["transformers", "mtl"],
        help="transformers: loads with AutoModelForSequenceClassification, or AutoModelForMaskedLM where the method has "
        "prompts; mtl: all tasks, loads with mtl.load. Where absent: transformers, but mtl for methods that it has no class for.",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="also write onnx/model.onnx, with an output for each task",
    )
    parser.add_argument(
        "--push",
        metavar="NAME",
        help="also upload it to the hub under this name, with the hub client's login",
    )
    return parser


def _asked(trained: Predictor, name: str | None, form: str) -> list[Task]:
    first = [] if name is None else [trained.task(name)]
    if form == "mtl":
        return first + [task for task in trained.tasks.values() if task not in first]
    if not first and len(trained.tasks) > 1:
        raise UserError(
            f"a directory for transformers has one task: say which, --task {' or '.join(trained.tasks)}"
        )
    return first or list(trained.tasks.values())


@contextmanager
def whole_or_not(out: Path) -> Iterator[Path]:
    """A folder under another name, which gets its own when all is well, and is not left behind otherwise.

    Args:
        out: The name in the end.
    """
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.rglob("*"):  # safetensors writes files that their owner alone may read
            file.chmod(part.stat().st_mode if file.is_dir() else part.stat().st_mode & 0o666)
        if out.exists():
            out.rmdir()  # an empty one
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_classifier(trained: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    (task,) = tasks
    found, several = (
        parts(trained.module, task),
        type(trained.module.task_loss[task.name]) is Binary,
    )
    classifier(found, task.classes, several).save_pretrained(folder)
    _save_tokenizer(trained, folder, trained.max_length)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    columns = [list(column) for column in zip(*texts_of(task), strict=True)]
    theirs = dict(tokenizer(*columns, truncation=True, padding=True, return_tensors="pt"))
    batch = batch_of(trained, task)
    if not torch.equal(theirs["input_ids"], batch.tokens["input_ids"]):
        raise UserError(
            f"{folder}: its tokenizer gives other ids than the run's, which encodes with {type(trained.encoding)}"
        )
    notes = [_compared(folder, trained, task, model, theirs)]
    if not fits_unchanged(found):
        notes.append(
            "The head is linear on the token's vector, and stands in a class that has one more layer: that layer's weights were "
            "chosen so that it passes the logits on unchanged. For use in fp32 or bf16 (not fp16), and not for further training."
        )
    if several:
        notes.append(
            "Each logit is a yes or no of its own; a class's probability is its sigmoid's share of all sigmoids."
        )
    return notes


def _write_masked_lm(trained: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    (task,) = tasks
    method = trained.module
    assert isinstance(method, PromptBasedFineTuning) and task.prompt
    masked_lm(method.encoder).save_pretrained(folder)
    length = trained.encoding.longest(task, trained.max_length)
    _save_tokenizer(trained, folder, length)
    words = method.words.get_buffer(task.name)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    tokens = dict(batch_of(trained, task).tokens)
    rows, places = torch.arange(len(tokens["input_ids"])), tokens.pop("mask_position").long()
    note = _compared(
        folder, trained, task, model, tokens, lambda logits: logits[rows, places][:, words]
    )
    tokens_of_words = trained.tokenizer.convert_ids_to_tokens(words.tolist())
    named = ", ".join(
        f"{name}: `{token}`" for name, token in zip(task.prompt.words, tokens_of_words, strict=True)
    )
    said = "The classes' probabilities are the softmax of these words' logits at the mask."
    if task.range:
        low, high = task.range
        said = f"The value is {low:g} + {high - low:g} times the second word's share in the softmax of the two at the mask."
    return [note, f"Template: `{task.prompt.template}`.", f"Tokens of the words: {named}. {said}"]


def _write_mtl(trained: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    method = trained.module
    arguments = {
        name: value
        for name, value in method.hparams.items()
        if name[0] != "_" and name not in OF_TRAINING
    }
    arguments["tasks"] = [_public(task) for task in trained.tasks.values()]
    if "scores" in arguments:
        arguments["scores"] = "none"  # they weigh rows in training alone
    arguments["backbone"] = public_name(method.backbone)
    encoding, cls = type(trained.encoding), type(method)
    made = {
        "class_path": f"{cls.__module__}.{cls.__qualname__}",
        "arguments": arguments,
        "max_length": trained.max_length,
        "encoding": f"{encoding.__module__}.{encoding.__qualname__}",
    }
    write_exported(folder, method, made)
    config = copy.deepcopy(_config(method))
    config.save_pretrained(folder / BACKBONE)
    _save_tokenizer(trained, folder / BACKBONE, trained.max_length)
    if trained.metrics:
        metrics = trained.metrics | {"backbone": public_name(method.backbone)}
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    again = Predictor(folder, device="cpu")
    largest = 0.0
    for task in tasks:
        ours, theirs = (logits_of(each.module, batch_of(each, task)) for each in (trained, again))
        largest = max(largest, refuse_differing(f"{folder.stem}, task {task.name!r}", theirs, ours))
    rows = len(texts_of(tasks[0]))
    return [
        f"Largest difference of a logit from the run's: {largest:.1e}, on {rows} rows of each task, in double precision."
    ]


WRITERS = {"classifier": _write_classifier, "masked_lm": _write_masked_lm, "mtl": _write_mtl}


def _config(method: Any) -> Any:
    encoder: Any = (
        method.encoders[method.tasks[0].name] if hasattr(method, "encoders") else method.encoder
    )
    return (encoder.model if hasattr(encoder, "model") else encoder.backbone).config


def _public(task: Task) -> dict[str, Any]:
    """A task's fields without what is of this machine."""
    fields = asdict(task)
    fields["source"]["path"] = None
    return fields


def _save_tokenizer(trained: Predictor, folder: Path, length: int) -> None:
    tokenizer = load_tokenizer(
        trained.module.backbone
    )  # a fresh one: a tokenizer keeps how its last call cut and padded
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def _compared(
    folder: Path,
    trained: Predictor,
    task: Task,
    model: PreTrainedModel,
    tokens: dict[str, Tensor],
    chosen: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> str:
    """What to say of the difference between a model of transformers, of whose logits some are chosen, and the run's."""
    batch = batch_of(trained, task)
    ours = trained.module(batch)[task.name]
    plain = refuse_differing(
        f"{folder.stem}, in fp32",
        chosen(model.eval()(**tokens).logits),
        ours,
        1e-5 * max(1, float(ours.abs().max())),
    )
    theirs = chosen(model.double()(**tokens).logits)
    largest = refuse_differing(
        f"{folder.stem}, task {task.name!r}", theirs, logits_of(trained.module, batch)
    )
    return (
        f"Largest difference of a logit from the run's: {plain:.1e} in fp32, {largest:.1e} where both are computed in double "
        f"precision (on {len(batch.task_ids)} rows, before this directory got its name)."
    )


def main(words: list[str]) -> None:
    """Runs the command; an error of the user's is one message."""
    with report_user_errors():
        export(words)
