"""Batched inference for one or several tasks: encode once, sort by length, predict together."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mtl.batch import Batch, InferencePart, inference_batch
from mtl.data.checks import Example
from mtl.data.choice_encoding import split_choices
from mtl.data.encoding import Encoding
from mtl.data.label_groups import same_words
from mtl.errors import UserError
from mtl.methods import MultiTaskModule
from mtl.tasks.token_labels import TokenLabels, WordOutputs

# The fields of several examples: a list of ids per example, or a number per example.
Encoded = dict[str, list[Any]]
Indices = npt.NDArray[np.int64]
# What is predicted: a tensor with one entry per example, or the outputs of each text's words.
Outputs = Tensor | list[WordOutputs]


class TaskGroup(NamedTuple):
    """Tasks that encode an example in the same way.

    Attributes:
        columns: Indices of the example's texts that these tasks read.
        tasks: Indices of the tasks in the method's list of tasks, those that label words first.
    """

    columns: tuple[int, ...]
    tasks: list[int]


class WordCollector:
    """Collects the outputs of texts' words; a long text may have several rows of tokens.

    Args:
        kind: The kind of the task.
        texts: The texts.
    """

    def __init__(self, kind: TokenLabels, texts: Sequence[str]) -> None:
        self.texts, self.words = texts, [kind.words(text) for text in texts]
        self._outputs = [np.zeros((len(words), kind.output_size)) for words in self.words]

    def add(self, tokens: Mapping[str, Any], outputs: Tensor) -> None:
        """Adds rows.

        Args:
            tokens: Their fields.
            outputs: Outputs of their tokens, shape (rows, length, tags).
        """
        values = outputs.double().cpu().numpy()
        for example, words, row in zip(tokens["example"], tokens["words"], values, strict=True):
            positions = np.flatnonzero(np.asarray(words) > 0)
            self._outputs[example][np.asarray(words)[positions] - 1] = row[positions]

    def values(self) -> list[npt.NDArray[np.float64]]:
        """The outputs of each text, shape (words, tags)."""
        return self._outputs

    def outputs(self) -> list[WordOutputs]:
        """The outputs of each text."""
        columns = zip(self.texts, self.words, self._outputs, strict=True)
        return [WordOutputs(text, words, values.tolist()) for text, words, values in columns]


class InferenceEngine:
    """Runs a trained method on examples, for one task or several.

    Texts that several tasks encode in the same way are tokenized once. If the method's encoder does
    not depend on the task, they also pass through the encoder once, followed by the heads of all
    these tasks. Otherwise a batch holds the example once per task.

    Args:
        module: The method, in evaluation mode, on the device to use.
        tokenizer: The tokenizer of its backbone.
        encoding: How texts become token ids.
        max_length: Maximum length of an example in tokens.
        columns: For each task to predict, by name, the indices of the example's texts that it
            reads.
        batch_size: Number of examples in a forward pass of the encoder.
        bf16: Whether to run under bfloat16 autocast.
    """

    def __init__(
        self,
        module: MultiTaskModule,
        tokenizer: PreTrainedTokenizerFast,
        encoding: Encoding,
        max_length: int,
        columns: Mapping[str, tuple[int, ...]],
        batch_size: int = 64,
        bf16: bool = False,
    ) -> None:
        self.module, self.tokenizer, self.encoding = module, tokenizer, encoding
        self.max_length, self.bf16 = max_length, bf16
        self.one_encoder_pass = not module.encoder_is_task_specific
        self.names = [task.name for task in module.tasks]
        self.padding = {
            "input_ids": int(tokenizer.pad_token_id),
            "token_type_ids": int(tokenizer.pad_token_type_id),
        }
        self.columns = columns
        self.groups = self._task_groups(columns)
        copies = 1 if self.one_encoder_pass else max(len(group.tasks) for group in self.groups)
        self.batch_size = max(1, batch_size // copies)

    @torch.inference_mode()
    def __call__(self, examples: Sequence[tuple[str, ...]]) -> dict[str, Any]:
        """Predicts all tasks.

        Args:
            examples: The texts of each example.

        Returns:
            For each task, class probabilities, shape (examples, classes), or values, shape
            (examples, 1); fp32, on the CPU, in the order of the examples. For token labels the
            outputs of each text's words.

        Raises:
            UserError: If an output is not finite: the weights are broken.
        """
        device = self.module.device
        tasks = [self.module.tasks[index] for group in self.groups for index in group.tasks]
        results: dict[str, Any] = {}
        for task in tasks:
            if isinstance(task.kind, TokenLabels):
                (column,) = self.columns[task.name]
                texts = [example[column] for example in examples]
                results[task.name] = WordCollector(task.kind, texts)
            else:
                results[task.name] = torch.empty(
                    len(examples), task.kind.output_size, device=device
                )
        encoded = [self._encode(group, examples) for group in self.groups] if examples else []
        for batch in self._batches(encoded):
            selected = {group: _select(encoded[group], indices) for group, indices in batch.items()}
            outputs = self._predict(
                [InferencePart(self.groups[group].tasks, each) for group, each in selected.items()]
            )
            for group, indices in batch.items():
                for name in (self.names[task] for task in self.groups[group].tasks):
                    if isinstance(results[name], WordCollector):
                        results[name].add(selected[group], outputs[name])
                    else:
                        results[name][torch.from_numpy(indices).to(device)] = outputs[name]
        for name, each in results.items():
            values = each.values() if isinstance(each, WordCollector) else each.cpu().numpy()
            _reject_non_finite(name, values)
        return {
            name: each.outputs() if isinstance(each, WordCollector) else each.cpu()
            for name, each in results.items()
        }

    def batch(self, examples: Sequence[tuple[str, ...]]) -> Batch:
        """The examples, in their order, as a batch of the first of the tasks."""
        encoded = _model_inputs(self._encode(self.groups[0], examples))
        tokens = _select(encoded, np.arange(len(encoded["input_ids"])))
        return inference_batch(
            [InferencePart(self.groups[0].tasks[:1], tokens)], self.names, self.padding, once=False
        )

    def _task_groups(self, columns: Mapping[str, tuple[int, ...]]) -> list[TaskGroup]:
        groups: dict[Any, TaskGroup] = {}
        for index, task in enumerate(self.module.tasks):
            if task.name in columns:
                read = columns[task.name]
                key = (
                    read,
                    self.encoding.shared_key(task),
                    self.encoding.length_limit(task, self.max_length),
                )
                groups.setdefault(key, TaskGroup(read, [])).tasks.append(index)
        return [
            TaskGroup(group.columns, part)
            for group in groups.values()
            for part in same_words(self.module.tasks, group.tasks)
        ]

    def _encode(self, group: TaskGroup, examples: Sequence[tuple[str, ...]]) -> Encoded:
        selected = [
            Example(index, tuple(texts[column] for column in group.columns), None)
            for index, texts in enumerate(examples)
        ]
        task = self.module.tasks[group.tasks[0]]
        return self.encoding(self.tokenizer, task, selected, self.max_length)[0]

    def _batches(self, encoded: list[Encoded]) -> list[dict[int, Indices]]:
        """Batches of rows of similar length, longest first: indices of rows by task group.

        Args:
            encoded: The examples as each group encodes them; a long text may have several rows.
        """
        if not encoded:
            return []
        lengths = np.concatenate([[len(ids) for ids in fields["input_ids"]] for fields in encoded])
        ends = np.cumsum([len(fields["input_ids"]) for fields in encoded])
        # Positions in the concatenation of all groups' rows.
        order = np.argsort(-lengths, kind="stable")
        batches = []
        for start in range(0, len(order), self.batch_size):
            positions = order[start : start + self.batch_size]
            groups = np.searchsorted(ends, positions, side="right")
            indices = positions - np.concatenate([[0], ends])[groups]
            batches.append(
                {group: indices[groups == group] for group in np.unique(groups).tolist()}
            )
        return batches

    def _predict(self, parts: list[InferencePart]) -> dict[str, Tensor]:
        parts = [part._replace(tokens=_model_inputs(part.tokens)) for part in parts]
        batch = inference_batch(parts, self.names, self.padding, self.one_encoder_pass)
        device = self.module.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            return self.module.predict_proba(to_device(batch, device))


def _reject_non_finite(task: str, values: Sequence[Any]) -> None:
    """Rejects outputs that are not finite, from which some class would be predicted."""
    broken = sum(not np.isfinite(each).all() for each in values)
    if broken:
        raise UserError(
            f"task {task!r}: the outputs of {broken} of {len(values)} texts are not finite, so "
            "they predict nothing: the weights are broken, or numbers overflow (with "
            "--precision bf16, use 32). Give another checkpoint, or train the run again"
        )


def output_rows(outputs: Outputs) -> Sequence[Any]:
    """The outputs of each example, as `TaskKind` takes them."""
    return outputs.tolist() if isinstance(outputs, Tensor) else outputs


def _model_inputs(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a batch holds."""
    return {name: values for name, values in tokens.items() if name not in ("words", "example")}


def _select(fields: Encoded, indices: Indices) -> dict[str, list[Any] | np.ndarray]:
    """The fields of some examples, as `InferencePart` takes them."""
    selected: dict[str, list[Any] | np.ndarray] = {}
    for name, values in fields.items():
        column = [values[index] for index in indices.tolist()]
        selected[name] = column if isinstance(column[0], list) else np.asarray(column)
    return split_choices(selected)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Moves the tensors that a forward pass reads to the device."""
    tokens = {name: value.to(device, non_blocking=True) for name, value in batch.tokens.items()}
    return batch._replace(tokens=tokens, task_ids=batch.task_ids.to(device, non_blocking=True))
