"""What a run has trained, loaded for use: its tasks, its scores, its model."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from jsonargparse import ArgumentParser
from transformers import PreTrainedTokenizerFast

from mtl.data.encoding import Encoding, Plain
from mtl.errors import UserError, did_you_mean, shorten
from mtl.export.native import WEIGHTS, is_exported, read_exported
from mtl.inference.engine import Answer, InferenceEngine, answers, fault_of
from mtl.methods import MultiTaskModule
from mtl.modules.backbone import load_tokenizer, without_weights
from mtl.tasks import Task
from mtl.training.run_folder import find_checkpoint, read_metrics, run_folder_of

# Rows that are sorted by length together.
WINDOW = 4096
# Arguments of a method that matter in training only, and may be classes.
OF_TRAINING = ("balancer", "regularizer", "optimizer", "optimizer_args", "init_from", "score")


class Predictor:
    """A trained model and what its checkpoint says of it.

    Args:
        run: A run's folder, whose best checkpoint is taken, a checkpoint file, or a directory of `mtl export --format mtl`.
        device: Where it computes, such as `cuda:1`; a GPU where there is one, where absent.

    Attributes:
        checkpoint: The checkpoint file, or the weights' of an export.
        folder: The run's folder, or the export's; None where the checkpoint was moved out of it.
        module: The method with its weights, in evaluation mode.
        tasks: Its tasks by name.
        encoding: How a row becomes numbers.
        max_length: Longest row in tokens.
        made: Arguments of its method (`model`) and of its data module (`data`), as plain values.

    Raises:
        UserError: If there is no such run, or its checkpoint or its backbone cannot be used.
    """

    def __init__(self, run: str | Path, device: str | torch.device | None = None) -> None:
        self.folder: Path | None
        exported = is_exported(Path(run))
        if exported:
            self.checkpoint, self.folder, kept = (
                Path(run) / WEIGHTS,
                Path(run),
                read_exported(Path(run)),
            )
        else:
            try:
                self.checkpoint = find_checkpoint(str(run), None, "predict")
            except UserError as error:  # in Python there are no options
                raise UserError(str(error).removeprefix("--ckpt_path ")) from error
            self.folder = run_folder_of(self.checkpoint)
            kept = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        made: dict[str, Any] = kept.get("hyper_parameters", {})
        if "_class_path" not in made:
            raise UserError(
                f"{self.checkpoint}: no checkpoint of mtl: it does not say of which tasks and method it is"
            )
        data: dict[str, Any] = kept.get("datamodule_hyper_parameters", {})
        self.max_length = int(data.get("max_length", 128))
        self.encoding: Encoding = (
            _instance(Encoding, data["encoding"]) if data.get("encoding") else Plain()
        )
        arguments = {
            name: value
            for name, value in made.items()
            if name[0] != "_" and name not in OF_TRAINING
        }
        with without_weights() if exported else nullcontext():
            module: MultiTaskModule = _instance(
                MultiTaskModule, {"class_path": made["_class_path"], "init_args": arguments}
            )
        module.on_load_checkpoint(kept)
        state = kept["state_dict"].items()
        module.load_state_dict(
            {name: value for name, value in state if name.partition(".")[0] not in OF_TRAINING}
        )
        self.module = module.to(_device(device)).eval()
        self.made = {"model": made, "data": data}
        self.tasks: dict[str, Task] = {task.name: task for task in self.module.tasks}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The backbone's tokenizer."""
        return load_tokenizer(self.module.backbone)

    @property
    def metrics(self) -> dict[str, Any]:
        """The run's `metrics.json`: scores, and how it was made; empty where the run's folder is not at hand."""
        return read_metrics(self.folder) if self.folder else {}

    @overload
    def predict(self, texts: Sequence[Any], task: str, batch_size: int = 64) -> list[Answer]: ...

    @overload
    def predict(
        self, texts: Sequence[Any], task: None = None, batch_size: int = 64
    ) -> dict[str, list[Answer]]: ...

    def predict(
        self, texts: Sequence[Any], task: str | None = None, batch_size: int = 64
    ) -> list[Answer] | dict[str, list[Answer]]:
        """What the model says of texts.

        Args:
            texts: Texts, or pairs of two texts (tuples or lists).
            task: The task asked; every task that reads as many texts where absent.
            batch_size: Rows in a pass through the encoder.

        Returns:
            An answer for each text or pair: a `Label` with the class and all probabilities, or a `Value`. Without a task, such
            a list for each task by name.

        Raises:
            UserError: If there is no such task, a text is empty or no text, or there are pairs where a task wants single
                texts, or the other way round.
        """
        rows = _rows(texts)
        asked = [self.task(task)] if task is not None else list(self.tasks.values())
        if rows:
            fitting = [each for each in asked if len(each.texts) == len(rows[0])]
            if not fitting:
                given = ("single texts", "pairs")[len(rows[0]) - 1]
                wanted = (
                    f"task {task!r} reads {_reads(asked[0])}"
                    if task
                    else "no task reads these: they read " + _reads(asked[0])
                )
                raise UserError(f"texts are {given}, and {wanted}")
            asked = fitting
        answering = self.answering(
            {each.name: tuple(range(len(each.texts))) for each in asked}, batch_size
        )
        found: dict[str, list[Answer]] = {each.name: [] for each in asked}
        for start in range(0, len(rows), WINDOW):
            for name, outputs in answering(rows[start : start + WINDOW]).items():
                found[name] += answers(self.tasks[name], outputs)
        return found if task is None else found[task]

    def answering(
        self, questions: Mapping[str, tuple[int, ...]], batch_size: int = 64, bf16: bool = False
    ) -> InferenceEngine:
        """The model asked of rows of texts; arguments as in `InferenceEngine`."""
        return InferenceEngine(
            self.module, self.tokenizer, self.encoding, self.max_length, questions, batch_size, bf16
        )

    def task(self, name: str) -> Task:
        """A task by its name.

        Raises:
            UserError: If there is none of that name.
        """
        if name not in self.tasks:
            raise UserError(
                f"there is no task {name!r}; {self.checkpoint} has {', '.join(self.tasks)}.{did_you_mean(name, self.tasks)}"
            )
        return self.tasks[name]


def _rows(texts: Sequence[Any]) -> list[tuple[str, ...]]:
    if isinstance(texts, str):
        raise UserError(f"texts is one text, {shorten(texts)}; give a list of texts, or of pairs")
    rows: list[Any] = [(text,) if isinstance(text, str) or text is None else text for text in texts]
    for number, row in enumerate(rows):
        if not isinstance(row, tuple | list) or len(row) not in (1, 2):
            raise UserError(
                f"texts[{number}] holds {shorten(row)}, which is neither a text nor a pair of two"
            )
        if len(row) != len(rows[0]):
            kinds = ("a single text", "a pair")
            raise UserError(
                f"texts[{number}] is {kinds[len(row) - 1]} and texts[0] {kinds[len(rows[0]) - 1]}; ask one kind at a time"
            )
        for place, text in enumerate(row):
            if fault := fault_of(text):
                raise UserError(f"texts[{number}]{f'[{place}]' if len(row) > 1 else ''} {fault}")
    return [tuple(row) for row in rows]


def _reads(task: Task) -> str:
    return "pairs" if task.pair else "single texts"


def _device(given: str | torch.device | None) -> torch.device:
    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(
            f"device {given!r}: there is no such kind of device; write cpu, cuda or cuda:1"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {given!r}: there are {torch.cuda.device_count()} GPUs here")
    return device


def _instance(base: type, named: dict[str, Any]) -> Any:
    """An object of a class that a checkpoint names: of the base's subclasses alone.

    A class that is not the project's has to be importable here, and its module is run by being imported.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "part")
    return parser.instantiate(parser.parse_object({"part": named})).part
