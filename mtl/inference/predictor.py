"""The Python interface to a trained model: `mtl.load` returns a `Predictor`."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from transformers import PreTrainedTokenizerFast

from mtl.errors import UserError, reject_unknown
from mtl.inference.engine import InferenceEngine, output_rows
from mtl.inference.graph import GRAPHS, Runtime, check_runtime, use_graph
from mtl.inference.loading import load_trained_model
from mtl.inference.options import WINDOW
from mtl.inference.texts import Text, checked_texts
from mtl.modules.backbone import load_tokenizer
from mtl.tasks import Prediction, Task
from mtl.training.run_folder import read_metrics


class Predictor:
    """A trained model that predicts for new texts.

    Args:
        run: A run folder (its best checkpoint is used), a checkpoint file, or a directory that
            `mtl export --format mtl` wrote.
        device: Device to run on, such as `cuda:1`. Default: a GPU if there is one, else the CPU.
        runtime: What computes the logits: `torch`, or on the CPU a graph of the export: `onnx`, or
            `int8` with its weights as 8-bit integers.

    Attributes:
        checkpoint: The checkpoint file, or the weight file of an export.
        folder: The run folder or the export directory; None if the checkpoint was moved out of its
            run folder.
        module: The method with its weights, in evaluation mode.
        tasks: Its tasks by name.
        encoding: How texts become token ids.
        max_length: Maximum length of an example in tokens.
        hyperparameters: Arguments of the method (`model`) and of the data module (`data`), as plain
            values.

    Raises:
        UserError: If there is no such run, its checkpoint or its backbone cannot be used, or it has
            no such graph.
    """

    def __init__(
        self,
        run: str | Path,
        device: str | torch.device | None = None,
        runtime: Runtime = "torch",
    ) -> None:
        check_runtime(run, runtime, device)
        trained = load_trained_model(Path(run))
        self.checkpoint, self.folder = trained.checkpoint, trained.folder
        self.module = trained.module.to("cpu" if runtime != "torch" else find_device(device))
        if runtime != "torch":
            use_graph(self.module, Path(run) / GRAPHS[runtime])
        self.encoding, self.max_length = trained.encoding, trained.max_length
        self.hyperparameters = trained.hyperparameters
        self.tasks: dict[str, Task] = {task.name: task for task in self.module.tasks}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the backbone."""
        return load_tokenizer(self.module.backbone_name)

    @property
    def metrics(self) -> dict[str, Any]:
        """Contents of the run's `metrics.json`; empty if the run folder is not available."""
        return read_metrics(self.folder) if self.folder else {}

    @overload
    def predict(
        self, texts: Sequence[Text], task: str, batch_size: int = 64
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, texts: Sequence[Text], task: None = None, batch_size: int = 64
    ) -> dict[str, list[Prediction]]: ...

    def predict(
        self, texts: Sequence[Text], task: str | None = None, batch_size: int = 64
    ) -> list[Prediction] | dict[str, list[Prediction]]:
        """Predicts for texts.

        Args:
            texts: Texts, or pairs of two texts (tuples or lists); for multiple choice the texts
                and the candidates.
            task: Name of the task to predict. Default: every task that reads as many texts per
                example.
            batch_size: Number of examples in a forward pass of the encoder.

        Returns:
            A `Prediction` for each text or pair: its `value` is the most probable class, the
            predicted number, or for token labels a list of spans with `label`, `text`, `start`,
            `end` and `probability`; its `probabilities` are those of all classes by name, or None
            for other tasks than classification. If no task is given, a dictionary with such a list
            for each task.

        Raises:
            UserError: If there is no such task, a text is empty or not a string, or pairs are given
                for a task that reads single texts, or vice versa.
        """
        examples = checked_texts(texts)
        tasks = [self.task(task)] if task is not None else list(self.tasks.values())
        if examples:
            tasks = _tasks_that_read(len(examples[0]), tasks)
        engine = self.engine(
            {each.name: tuple(range(len(each.text_columns))) for each in tasks}, batch_size
        )
        predictions: dict[str, list[Prediction]] = {each.name: [] for each in tasks}
        for start in range(0, len(examples), WINDOW):
            for name, outputs in engine(examples[start : start + WINDOW]).items():
                predictions[name] += map(self.tasks[name].kind.prediction, output_rows(outputs))
        return predictions if task is None else predictions[task]

    def engine(
        self, columns: Mapping[str, tuple[int, ...]], batch_size: int = 64, bf16: bool = False
    ) -> InferenceEngine:
        """An `InferenceEngine` for this model; for the arguments see there."""
        return InferenceEngine(
            self.module, self.tokenizer, self.encoding, self.max_length, columns, batch_size, bf16
        )

    def length_limit(self, task: Task) -> int:
        """The maximum length of a task's examples in tokens."""
        return self.encoding.length_limit(task, self.max_length)

    def task(self, name: str) -> Task:
        """The task with the given name.

        Raises:
            UserError: If the model has no such task.
        """
        reject_unknown(str(self.checkpoint), "task", [name], self.tasks)
        return self.tasks[name]


def _tasks_that_read(count: int, tasks: list[Task]) -> list[Task]:
    """The tasks that read `count` texts per example.

    Raises:
        UserError: If none does.
    """
    matching = [task for task in tasks if len(task.text_columns) == count]
    if not matching:
        names = ", ".join(repr(task.name) for task in tasks)
        counts = sorted({len(task.text_columns) for task in tasks})
        expected = " or ".join(_texts_per_example(number) for number in counts)
        raise UserError(
            f"texts are {_texts_per_example(count)}, but the model reads {expected} for {names}; "
            f"give {expected}"
        )
    return matching


def _texts_per_example(count: int) -> str:
    return {1: "single texts", 2: "pairs"}.get(count, f"{count} texts per example")


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of a name. Default: a GPU if there is one, else the CPU.

    Raises:
        UserError: If there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(
            f"device {name!r}: unknown type of device; use cpu, cuda or cuda:1"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: this machine has {torch.cuda.device_count()} GPUs")
    return device
