"""What a run has trained, loaded for use: its tasks, its scores, its model."""

from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from transformers import PreTrainedTokenizerFast

from mtl.backbone import load_tokenizer, without_weights
from mtl.data.encoding import Encoding, Plain
from mtl.exported import WEIGHTS, is_exported, read_exported
from mtl.methods import MultiTaskModule
from mtl.runs import find_checkpoint, read_metrics, run_of
from mtl.tasks import Task
from mtl.text import DataError

# Arguments of a method that matter in training only, and may be classes.
OF_TRAINING = ("balancer", "regularizer", "optimizer", "optimizer_args", "init_from", "score")


class Trained:
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

    Raises:
        DataError: If there is no such run, or its checkpoint or its backbone cannot be used.
    """

    def __init__(self, run: str | Path, device: str | torch.device | None = None) -> None:
        self.folder: Path | None
        exported = is_exported(Path(run))
        if exported:
            self.checkpoint, self.folder, kept = Path(run) / WEIGHTS, Path(run), read_exported(Path(run))
        else:
            self.checkpoint = find_checkpoint(str(run), None, "predict")
            self.folder = run_of(self.checkpoint)
            kept = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        made: dict[str, Any] = kept.get("hyper_parameters", {})
        if "_class_path" not in made:
            raise DataError(f"{self.checkpoint}: no checkpoint of mtl: it does not say of which tasks and method it is")
        data: dict[str, Any] = kept.get("datamodule_hyper_parameters", {})
        self.max_length = int(data.get("max_length", 128))
        self.encoding: Encoding = _instance(Encoding, data["encoding"]) if data.get("encoding") else Plain()
        arguments = {name: value for name, value in made.items() if name[0] != "_" and name not in OF_TRAINING}
        with without_weights() if exported else nullcontext():
            module: MultiTaskModule = _instance(MultiTaskModule, {"class_path": made["_class_path"], "init_args": arguments})
        module.on_load_checkpoint(kept)
        module.load_state_dict(kept["state_dict"])
        self.module = module.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        self.tasks: dict[str, Task] = {task.name: task for task in self.module.tasks}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The backbone's tokenizer."""
        return load_tokenizer(self.module.backbone)

    @property
    def metrics(self) -> dict[str, Any]:
        """The run's `metrics.json`: scores, and how it was made; empty where the run's folder is not at hand."""
        return read_metrics(self.folder) if self.folder else {}


def _instance(base: type, named: dict[str, Any]) -> Any:
    """An object of a class that a checkpoint names, which may come from strangers: of the base's subclasses alone."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "part")
    return parser.instantiate(parser.parse_object({"part": named})).part
