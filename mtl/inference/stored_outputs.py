"""The outputs of a trained model for the training examples of a task, stored by example."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtl.batch import Batch, collate
from mtl.data.encoded_files import tokenizer_digest
from mtl.data.encoded_split import EncodedSplit
from mtl.data.encoding import Encoding
from mtl.data.example_loaders import ExampleLoaders
from mtl.data.order import Draw
from mtl.errors import UserError, list_words
from mtl.inference.engine import to_device
from mtl.inference.loading import TrainedModel, checkpoint_of, load_trained_model
from mtl.inference.native_format import WEIGHTS, is_exported, read_exported
from mtl.modules.backbone import load_config, load_tokenizer
from mtl.modules.backbone_checks import position_limit
from mtl.modules.task_context import task_context
from mtl.tasks import Task
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import atomic_output

BATCH_SIZE = 64


class StoredOutputs(NamedTuple):
    """Logits or values of a task's training examples, with the ids of its batches.

    Attributes:
        ids: The examples' ids in ascending order, shape (examples,).
        values: Logits or values, shape (rows, size): one row per example, or per token.
        ends: Where each example's rows end, shape (examples,).
        of_tokens: Whether there is a row per token.
    """

    ids: Tensor
    values: Tensor
    ends: Tensor
    of_tokens: bool

    def __call__(self, ids: Tensor, length: int) -> Tensor:
        """The outputs of examples; zeros for examples and tokens that have none.

        Args:
            ids: Ids of examples, shape (n,).
            length: Number of tokens of the result, if there is a row per token.

        Returns:
            Shape (n, size), or (n, length, size) for tokens.
        """
        wanted = ids.cpu()
        places = torch.searchsorted(self.ids, wanted).clamp(max=len(self.ids) - 1)
        known = self.ids[places] == wanted
        if not self.of_tokens:
            return torch.where(known[:, None], self.values[places], 0.0).to(ids.device)
        found = self.values.new_zeros(len(ids), length, self.values.shape[1])
        for row, place in enumerate(places.tolist()):
            if known[row]:
                start = int(self.ends[place - 1]) if place else 0
                values = self.values[start : int(self.ends[place])][:length]
                found[row, : len(values)] = values
        return found.to(ids.device)


def store_outputs(run: Path, task: Task, data: ExampleLoaders, device: torch.device) -> Path:
    """Computes the outputs of a run for the training examples of a task, unless they are stored.

    Args:
        run: A run folder, a checkpoint or an export, whose model has this task.
        task: The task.
        data: The data of the training, after `setup("fit")`.
        device: Device to compute on.

    Returns:
        The file with the outputs, in the cache of the encoded data.

    Raises:
        UserError: If the run's model cannot read the examples as they are encoded, or examples
            cannot be told apart.
    """
    split = data.train_splits[[each.name for each in data.tasks].index(task.name)]
    _check_ids(task, split)
    path = data.cache / "teachers" / f"{task.name}-{_digest(run, task, split)}.safetensors"
    if not path.exists():
        trained = load_trained_model(run)
        _check_model(trained, run, task, split, data)
        rank_zero_info(f"{task.name}: outputs of {run} on {len(split):,} training examples")
        with atomic_output(path) as temporary:
            save_file(_outputs(trained, task, split, data, device), temporary)
    return path


def tasks_of_run(run: Path) -> list[str]:
    """Names of the tasks of a run folder, a checkpoint or an export."""
    content = read_exported(run) if is_exported(run) else read_checkpoint(checkpoint_of(run))
    return [Task.read(task).name for task in content["hyper_parameters"]["tasks"]]


def read_outputs(path: Path) -> StoredOutputs:
    """Reads a file of `store_outputs`."""
    tensors = load_file(path)
    ids, values, ends = (tensors[name] for name in ("ids", "values", "ends"))
    return StoredOutputs(ids, values, ends, bool(tensors["of_tokens"]))


def _digest(run: Path, task: Task, split: EncodedSplit) -> str:
    checkpoint = run / WEIGHTS if is_exported(run) else checkpoint_of(run)
    with checkpoint.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").digest()
    examples = f"{task.name} {split.path.name}".encode() + split.rows.tobytes()
    return hashlib.sha256(weights + examples).hexdigest()[:24]


def _check_ids(task: Task, split: EncodedSplit) -> None:
    if len(np.unique(split.numbers)) < len(split):
        raise UserError(
            f"task {task.name!r}: examples with several windows or several augmented copies cannot "
            "be told apart by a teacher's stored outputs; omit `window_overlap`, or add one copy"
        )


def _check_model(
    trained: TrainedModel, run: Path, task: Task, split: EncodedSplit, data: ExampleLoaders
) -> None:
    """Refuses a model that cannot read the encoded examples."""
    module = trained.module
    theirs = {each.name: each for each in module.tasks}
    if task.name not in theirs or not theirs[task.name].kind.same_outputs(task.kind):
        raise UserError(
            f"{run}: no task {task.name!r} with the same classes; it has {list_words(list(theirs))}"
        )
    tokenizer = load_tokenizer(module.backbone_name)
    if tokenizer_digest(tokenizer) != tokenizer_digest(data.tokenizer):
        raise UserError(
            f"{run}: its backbone {module.backbone_name} has another tokenizer; give a teacher "
            "with the same one"
        )
    encodings: list[Encoding] = [trained.encoding, data.encoding]
    if len({encoding.key(task) for encoding in encodings}) > 1:
        raise UserError(f"{run}: it reads {task.name!r} in another form, such as a prompt")
    limit = position_limit(load_config(module.backbone_name))
    if limit is not None and split.lengths.max() > limit:
        raise UserError(
            f"{run}: its backbone reads {limit} tokens, but {task.name!r} has examples of "
            f"{split.lengths.max()}; give --data.max_length {limit}"
        )


@torch.no_grad()
def _outputs(
    trained: TrainedModel,
    task: Task,
    split: EncodedSplit,
    data: ExampleLoaders,
    device: torch.device,
) -> dict[str, Tensor]:
    """The tensors of `StoredOutputs`, by ascending id."""
    module = trained.module.to(device)
    names = [each.name for each in module.tasks]
    found: list[Tensor] = [torch.empty(0)] * len(split)
    of_tokens = False
    for examples, batch in _batches(split, names, task.name, data):
        with task_context(batch.segments, slice(0, len(examples))):
            logits = module.training_logits(to_device(batch, device))[task.name].float().cpu()
        of_tokens = logits.ndim == 3
        for example, values in zip(examples.tolist(), logits, strict=True):
            rows = values[: split.lengths[example]] if of_tokens else values[None]
            found[example] = rows.clone()
    order = np.argsort(split.numbers)
    values = [found[example] for example in order]
    return {
        "ids": torch.from_numpy(split.numbers[order].astype(np.int64)),
        "values": torch.cat(values),
        "ends": torch.tensor([len(rows) for rows in values]).cumsum(0),
        "of_tokens": torch.tensor(of_tokens),
    }


def _batches(
    split: EncodedSplit, names: list[str], task: str, data: ExampleLoaders
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Batches of examples of similar length, with the task's index in the trained model."""
    index, order = names.index(task), np.argsort(split.lengths, kind="stable")
    for start in range(0, len(order), BATCH_SIZE):
        examples = order[start : start + BATCH_SIZE]
        part = split.take(Draw(index, examples), len(examples))
        yield examples, collate([part], names, data.padding)
