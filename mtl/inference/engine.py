"""Rows of texts to answers: each text encoded once, rows of similar length together, all tasks in one pass."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mtl.batch import Batch, InferencePart, inference_batch
from mtl.data.checks import Example
from mtl.data.encoding import Encoding
from mtl.errors import shorten
from mtl.methods import MultiTaskModule
from mtl.tasks import Task


class Label(NamedTuple):
    """An answer to a classification.

    Attributes:
        label: The most probable class.
        probabilities: The probability of each class, in the order of the task's classes.
    """

    label: str
    probabilities: dict[str, float]


class Value(NamedTuple):
    """An answer to a regression.

    Attributes:
        value: The value.
    """

    value: float


Answer = Label | Value


class Group(NamedTuple):
    """Tasks that read the same numbers of a row.

    Attributes:
        texts: Places of the texts in a row.
        tasks: The tasks' places in the list of tasks.
    """

    texts: tuple[int, ...]
    tasks: list[int]


class InferenceEngine:
    """A trained method asked about rows of texts, of one task or of several.

    A text that several tasks read in the same way is tokenised once, and where the method's encoder knows no tasks it
    also passes through it once, on to the heads of all of them. Else a batch holds the row once for each task.

    Args:
        module: The method, in evaluation mode, where it is to compute.
        tokenizer: Its backbone's tokenizer.
        encoding: How a row becomes numbers.
        max_length: Longest row in tokens.
        questions: For each task asked, by name, the places in a row of the texts that it reads.
        batch_size: Rows in a pass through the encoder.
        bf16: Whether products are computed in bfloat16.
    """

    def __init__(
        self,
        module: MultiTaskModule,
        tokenizer: PreTrainedTokenizerFast,
        encoding: Encoding,
        max_length: int,
        questions: Mapping[str, tuple[int, ...]],
        batch_size: int = 64,
        bf16: bool = False,
    ) -> None:
        self.module, self.tokenizer, self.encoding, self.max_length = (
            module,
            tokenizer,
            encoding,
            max_length,
        )
        self.bf16, self.once = bf16, not module.encoder_is_task_specific
        self.names = [task.name for task in module.tasks]
        self.padding = {
            "input_ids": int(tokenizer.pad_token_id),
            "token_type_ids": int(tokenizer.pad_token_type_id),
        }
        groups: dict[Any, Group] = {}
        for place, task in enumerate(module.tasks):
            if task.name in questions:
                read = (
                    questions[task.name],
                    encoding.key(task),
                    encoding.longest(task, max_length),
                )
                groups.setdefault(read, Group(questions[task.name], [])).tasks.append(place)
        self.groups = list(groups.values())
        copies = 1 if self.once else max(len(group.tasks) for group in self.groups)
        self.batch_size = max(1, batch_size // copies)

    @torch.inference_mode()
    def __call__(self, rows: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
        """For each task the rows' class probabilities, (rows, classes), or values, (rows, 1), in fp32, in the rows' order."""
        device = self.module.device
        tasks = [self.module.tasks[place] for group in self.groups for place in group.tasks]
        found = {task.name: torch.empty(len(rows), task.outputs, device=device) for task in tasks}
        if not rows:
            return {name: outputs.cpu() for name, outputs in found.items()}
        encoded = [self._encoded(group, rows) for group in self.groups]
        lengths = np.concatenate([[len(ids) for ids in tokens["input_ids"]] for tokens in encoded])
        order = np.argsort(
            -lengths, kind="stable"
        )  # over all groups, whose rows follow one another
        for start in range(0, len(order), self.batch_size):
            owners, places = np.divmod(order[start : start + self.batch_size], len(rows))
            chosen = {number: places[owners == number] for number in np.unique(owners).tolist()}
            outputs = self._passed(
                [
                    InferencePart(self.groups[number].tasks, _taken(encoded[number], own))
                    for number, own in chosen.items()
                ]
            )
            for number, own in chosen.items():
                there = torch.from_numpy(own).to(device)
                for place in self.groups[number].tasks:
                    found[self.names[place]][there] = outputs[self.names[place]]
        return {name: outputs.cpu() for name, outputs in found.items()}

    def batch(self, rows: Sequence[tuple[str, ...]]) -> Batch:
        """The rows, in their order, as the first of the tasks reads them."""
        tokens = _taken(self._encoded(self.groups[0], rows), np.arange(len(rows)))
        return inference_batch(
            [InferencePart(self.groups[0].tasks[:1], tokens)], self.names, self.padding, once=False
        )

    def _encoded(self, group: Group, rows: Sequence[tuple[str, ...]]) -> dict[str, list[Any]]:
        read = [
            Example(number, tuple(row[place] for place in group.texts), None)
            for number, row in enumerate(rows)
        ]
        return self.encoding(
            self.tokenizer, self.module.tasks[group.tasks[0]], read, self.max_length
        )[0]

    def _passed(self, parts: list[InferencePart]) -> dict[str, Tensor]:
        batch = _moved(
            inference_batch(parts, self.names, self.padding, self.once), self.module.device
        )
        with torch.autocast(self.module.device.type, torch.bfloat16, enabled=self.bf16):
            return self.module.predict_proba(batch)


def answers(task: Task, outputs: Tensor) -> list[Answer]:
    """Answers in the task's words.

    Args:
        task: The task.
        outputs: Class probabilities, (rows, classes), or values, (rows, 1).
    """
    if task.regression:
        return [Value(value) for (value,) in outputs.tolist()]
    return [
        Label(task.classes[shares.index(max(shares))], dict(zip(task.classes, shares, strict=True)))
        for shares in outputs.tolist()
    ]


def fault_of(text: object) -> str | None:
    """What is wrong with a text, such as `is empty`; None where nothing is."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return f"is empty ({text!r})"
    if not isinstance(text, str):
        return f"holds {shorten(text)}, which is not text"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"is not UTF-8: {shorten(text[max(0, error.start - 20) : error.start + 20])}"
    return None


def _taken(tokens: dict[str, list[Any]], rows: np.ndarray) -> dict[str, list[Any] | np.ndarray]:
    found: dict[str, list[Any] | np.ndarray] = {}
    for name, values in tokens.items():
        own = [values[row] for row in rows.tolist()]
        found[name] = own if isinstance(own[0], list) else np.asarray(own)
    return found


def _moved(batch: Batch, device: torch.device) -> Batch:
    """A batch's tensors that a forward pass reads, on the device."""
    tokens = {name: value.to(device, non_blocking=True) for name, value in batch.tokens.items()}
    return batch._replace(tokens=tokens, task_ids=batch.task_ids.to(device, non_blocking=True))
