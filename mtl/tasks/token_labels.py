"""The kind of tasks that predict a tag for each word: entities, slots, parts of speech."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from mtl.tasks.kinds import Label, Prediction, TaskKind
from mtl.tasks.label_readers import LabelReader
from mtl.tasks.tags import EntityFinder, Scheme, tag_names
from mtl.tasks.token_readers import TagReader

WORD = re.compile(r"\S+")
WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


class WordOutputs(NamedTuple):
    """The outputs for one text.

    Attributes:
        text: The text.
        words: Start and end of each word in it.
        probabilities: The probability of each tag for each word, (words, tags); zeros for words
            beyond the maximum length.
    """

    text: str
    words: list[tuple[int, int]]
    probabilities: list[list[float]]


class TokenLabels(TaskKind):
    """A tag for each word of a text.

    Args:
        classes: Types of entities; in the scheme `plain`, the tags.
        scheme: How tags stand for entities.
        label_all: Whether every sub-token of a word is trained, instead of the first.
        overlap: Tokens that neighbouring windows of a long text share; None: it is truncated.
    """

    name = "token label"
    metrics: ClassVar[tuple[str, ...]] = (
        "entity_f1",
        "entity_precision",
        "entity_recall",
        "token_accuracy",
        "exact_match",
    )
    default_metrics = ("entity_f1",)
    losses = ("token_cross_entropy",)
    plot = "confusion"
    label_dtype = np.int64
    missing_label = -1
    labels_words = True
    has_class_probabilities = True
    comparison_columns = ("label", "prediction")
    value_range = None
    prompt_words = ()

    def __init__(
        self,
        classes: Sequence[str],
        scheme: Scheme = "IOB2",
        label_all: bool = False,
        overlap: int | None = None,
    ) -> None:
        self.classes, self.scheme = tuple(classes), scheme
        self.label_all, self.overlap = label_all, overlap
        self.output_names = self.label_space = tag_names(classes, scheme)

    @property
    def finder(self) -> EntityFinder:
        """Finds the entities in tag sequences."""
        return EntityFinder(self.output_names)

    @property
    def description(self) -> str:
        """The tags or the types of entities."""
        what = "tag" if self.scheme == "plain" else "entity"
        return f"for each word a {what} of {', '.join(self.classes)}"

    @property
    def splits_punctuation(self) -> bool:
        """Whether a punctuation mark is a word of its own, as in texts with spans."""
        return self.scheme == "spans"

    def words(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each word of a text."""
        pattern = WORD_OR_MARK if self.splits_punctuation else WORD
        return [match.span() for match in pattern.finditer(text)]

    def label_reader(self, aliases: Mapping[str, str]) -> LabelReader:
        """A reader of the words' tags, or of spans; it gets the text and the label."""
        return TagReader(self.output_names, self.scheme, aliases, self.words)

    def label_array(self, labels: Sequence[Label | None]) -> npt.NDArray[Any]:
        """Tag indices, shape (examples, words), -1 after the last word of an example."""
        lists = [label or [] for label in labels]
        array = np.full((len(lists), max([1, *map(len, lists)])), self.missing_label, np.int64)
        for row, label in zip(array, lists, strict=True):
            row[: len(label)] = label
        return array

    def is_labelled(self, labels: Any) -> Any:
        """Whether any word of an example has a label."""
        return (labels >= 0).any(-1)

    def k_shot_classes(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Not defined: an example may have several entities; see `example_class_counts`."""
        raise NotImplementedError

    def example_class_counts(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The number of entities of each class in each example, shape (examples, classes)."""
        counts = np.zeros((len(labels), len(self.classes)), np.int64)
        if self.scheme == "plain":
            examples, words = np.nonzero(labels >= 0)
            np.add.at(counts, (examples, labels[examples, words]), 1)
        else:
            # Missing labels separate no entity: they are those of further sub-tokens and padding.
            packed = self.label_array([row[row >= 0].tolist() for row in labels])
            entities = self.finder(packed)
            np.add.at(counts, (entities.sequences, entities.types), 1)
        return counts

    def class_counts(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The number of entities of each class."""
        return self.example_class_counts(labels).sum(0)

    def token_labels(self, label: Sequence[int], words: Sequence[int]) -> list[int]:
        """The labels of a text's tokens, -1 for tokens that are not scored.

        Args:
            label: The tag of each word.
            words: For the first token of each word its number, counted from 1; for its other tokens
                the negative number; 0 for special tokens.
        """
        labels = []
        for number in words:
            tag = label[abs(number) - 1] if number > 0 or (number and self.label_all) else -1
            if number < 0 and tag >= 0 and self.output_names[tag].startswith("B-"):
                tag = self.output_names.index(f"I-{self.output_names[tag][2:]}")
            labels.append(tag)
        return labels

    def prediction(self, outputs: Any) -> Prediction:
        """The words' tags; with the text, the entities with their texts and offsets."""
        if isinstance(outputs, WordOutputs):
            return Prediction(self._spans(outputs))
        return Prediction([self.output_names[tag] for tag in self.predicted_label(outputs)])

    def predicted_label(self, outputs: Sequence[Any]) -> list[int]:
        """Index of the most probable tag of each word; nothing for padding at the end."""
        last = max((index for index, values in enumerate(outputs) if any(values)), default=-1)
        return [int(np.argmax(values)) for values in outputs[: last + 1]]

    def is_correct(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Whether the tags of all words with a label are right."""
        correct: npt.NDArray[np.bool_] = ((outputs.argmax(-1) == labels) | (labels < 0)).all(-1)
        return correct

    def comparison_cells(self, outputs: Sequence[Any], label: Label) -> list[str]:
        """The labels, and the predicted tags, of words with a label."""
        known = [(tag, values) for tag, values in zip(label, outputs, strict=True) if tag >= 0]
        tags = [tag for tag, _ in known], self.predicted_label([values for _, values in known])
        return [" ".join(self.output_names[tag] for tag in each) for each in tags]

    def outputs(self, record: Mapping[str, Any]) -> list[list[float]]:
        """The probabilities of each word's tags."""
        outputs: list[list[float]] = record["probabilities"]
        return outputs

    def label_value(self, label: Label) -> list[str | None]:
        """The words' tags; null for a word without label."""
        last = max((index for index, tag in enumerate(label) if tag >= 0), default=-1)
        return [None if tag < 0 else self.output_names[tag] for tag in label[: last + 1]]

    def label(self, value: Any) -> list[int]:
        """The tag indices."""
        return [-1 if tag is None else self.output_names.index(tag) for tag in value]

    def record(self, outputs: Any) -> dict[str, Any]:
        """One example's prediction as it is written to JSON."""
        record: dict[str, Any] = {"prediction": self.prediction(outputs).value}
        if isinstance(outputs, WordOutputs):
            return record
        return record | {"probabilities": outputs[: len(record["prediction"])]}

    def csv_columns(self, task: str) -> list[str]:
        """The entities, as JSON."""
        return [task]

    def csv_cells(self, outputs: Any) -> list[str | float]:
        """The entities, as JSON."""
        return [json.dumps(self.prediction(outputs).value, ensure_ascii=False)]

    def _spans(self, outputs: WordOutputs) -> list[dict[str, Any]]:
        """The entities, or in the scheme `plain` the words, with texts and offsets."""
        tags = self.predicted_label(outputs.probabilities)
        if self.scheme == "plain":
            ranges = [(index, index + 1, tag) for index, tag in enumerate(tags)]
        else:
            found = self.finder(np.array([tags], np.int64).reshape(1, -1))
            columns = (found.starts.tolist(), found.stops.tolist(), found.types.tolist())
            ranges = list(zip(*columns, strict=True))
        spans = []
        for first, stop, index in ranges:
            start, end = outputs.words[first][0], outputs.words[stop - 1][1]
            values = [max(row) for row in outputs.probabilities[first:stop]]  # one of each word
            spans.append(
                {
                    "label": self.classes[index],
                    "text": outputs.text[start:end],
                    "start": start,
                    "end": end,
                    "probability": min(values),
                }
            )
        return spans


class WordTags(TokenLabels):
    """A tag for each word that marks no entities, such as its part of speech."""

    metrics = ("token_accuracy", "exact_match")
    default_metrics = ("token_accuracy",)
