"""Encodings turn examples into token ids; `encode` applies one to a split and caches the result."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from mtl.data.augmentation import Augmentation
from mtl.data.checks import Example, checked_examples
from mtl.data.choice_encoding import encode_choices
from mtl.data.encoded_writing import write_encoded_split
from mtl.data.sources import Split, open_split
from mtl.data.token_encoding import encode_words
from mtl.data.truncation import encode_texts, encode_truncated
from mtl.tasks import Task, TokenLabels
from mtl.tasks.prompts import fill_template
from mtl.tasks.templates import parse_template
from mtl.training.run_folder import atomic_output

# Raise when files of the same examples differ from those before, so that old files are ignored.
FORMAT = 7
# Fields of a task on which its encoded examples do not depend; the encoding's key has the prompt.
IRRELEVANT_FIELDS = (
    "prompt",
    "metrics",
    "thresholds",
    "splits",
    "version",
    "licence",
)

# The fields of the examples (per example a list of ids, or one number), and how many examples were
# truncated. A field `example` has the index of each row's example, if some have several rows.
Encoded = tuple[dict[str, list[Any]], int]


class Encoding(ABC):
    """How examples become token ids. Encodings that differ must have different `key`s.

    Constructor arguments are plain values, and attributes have their names.
    """

    @abstractmethod
    def key(self, task: Task) -> str:
        """Identifies the encoding.

        It covers everything that the token ids depend on except the tokenizer, the texts and the
        maximum length.
        """

    def shared_key(self, task: Task) -> str:
        """Identifies the token ids alone, without what belongs to the task's labels.

        Tasks with equal keys that read the same texts have the same token ids.
        """
        return self.key(task)

    def length_limit(self, task: Task, max_length: int) -> int:
        """The maximum length of a task's examples in tokens: the task's own, if it has one."""
        return task.max_length or max_length

    @abstractmethod
    def __call__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        examples: Sequence[Example],
        max_length: int,
    ) -> Encoded:
        """Encodes examples; see `Encoded`."""


class Plain(Encoding):
    """The tokenizer's own encoding of a text or a pair; the longer text of a pair is cut first."""

    def key(self, task: Task) -> str:
        """What is cut from texts that are too long, and which words are labelled."""
        words = (task.tags, task.window_overlap) if task.tokens else ()
        return f"plain, {task.truncation} {words} {len(task.choices)}"

    def shared_key(self, task: Task) -> str:
        """What is cut from texts that are too long; labels of words do not change token ids."""
        return f"plain, {task.truncation} {task.window_overlap} {len(task.choices)}"

    def __call__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        examples: Sequence[Example],
        max_length: int,
    ) -> Encoded:
        """Token ids, and segment ids if the backbone reads them."""
        length = self.length_limit(task, max_length)
        if task.choices:
            encode = partial(encode_texts, tokenizer, length=length)
            return encode_choices(examples, len(task.choices), encode)
        texts = [
            list(column) for column in zip(*(example.texts for example in examples), strict=True)
        ]
        if isinstance(task.kind, TokenLabels):
            return encode_words(tokenizer, task, task.kind, texts[0], length)
        if task.truncation != "right":
            return encode_truncated(tokenizer, texts, length, task.truncation)
        return encode_texts(tokenizer, *texts, length=length)


class Prompted(Encoding):
    """The task's prompt: a text with a mask, and the position of the mask.

    Source: Gao et al. 2021 (LM-BFF), its release; specification A.4.

    Args:
        exact: Whether `{premise-}` drops the last character of every task's text whatever it is, as
            the release does; a task's own `prompt.exact` does so for that task.
    """

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact

    def key(self, task: Task) -> str:
        """The prompt, and the text columns that it refers to."""
        prompt = self._task(task).prompt
        return json.dumps(["prompted", task.texts, asdict(prompt) if prompt else None])

    def length_limit(self, task: Task, max_length: int) -> int:
        """The prompt's own maximum length if it has one, else the task's."""
        return (task.prompt and task.prompt.max_length) or super().length_limit(task, max_length)

    def __call__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        task: Task,
        examples: Sequence[Example],
        max_length: int,
    ) -> Encoded:
        """Token ids, segment ids if the backbone reads them, and `mask_position`."""
        task = self._task(task)
        template, length = parse_template(task), self.length_limit(task, max_length)
        prompts = [
            fill_template(task, template, example.texts, tokenizer, length) for example in examples
        ]
        ids, segments, masks, cut = (list(column) for column in zip(*prompts, strict=True))
        fields: dict[str, list[Any]] = {"input_ids": ids, "mask_position": masks}
        if "token_type_ids" in tokenizer.model_input_names:
            fields["token_type_ids"] = segments
        return fields, sum(cut)

    def _task(self, task: Task) -> Task:
        """The task with the prompt that is encoded."""
        if not self.exact or task.prompt is None:
            return task
        return replace(task, prompt=replace(task.prompt, exact=True))


def encode(
    task: Task,
    split: str,
    *,
    tokenizer: PreTrainedTokenizerFast,
    encoding: Encoding,
    max_length: int,
    cache: Path,
    root: Path | None = None,
    labelled: bool = True,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    others: Sequence[Task] = (),
) -> Path:
    """Tokenizes a task's split, unless it is in the cache.

    Args:
        task: The task.
        split: Name of the split in the task's source.
        tokenizer: The backbone's tokenizer.
        encoding: How examples become token ids.
        max_length: Maximum length of an example in tokens; longer ones are truncated.
        cache: Folder of the encoded files. A file's name is a hash of tokenizer, task, examples and
            maximum length.
        root: Folder whose sub-folders hold the tasks' files, instead of the tasks' sources.
        labelled: Whether every example needs a label.
        augmentation: Which copies are added to the examples.
        seed: Seed of the augmentation.
        others: The other tasks of the label group, whose labels are stored too.

    Returns:
        The file, for `EncodedSplit`.

    Raises:
        UserError: If examples cannot be read or used.
    """
    source = open_split(task, split, root)
    path = encoded_path(
        task,
        split,
        source,
        tokenizer=tokenizer,
        encoding=encoding,
        max_length=max_length,
        cache=cache,
        labelled=labelled,
        augmentation=augmentation,
        seed=seed,
        others=others,
    )
    if path.exists():
        return path

    dropped: Counter[str] = Counter()
    tasks = [task, *others]
    examples = checked_examples(tasks if others else task, source, dropped, labelled)
    if augmentation:
        examples = augmentation.augmented(examples, seed)
    encode_chunk = partial(encoding, tokenizer, task, max_length=max_length)
    with atomic_output(path) as temporary:
        write_encoded_split(
            temporary, examples, source, dropped, encode_chunk, [each.kind for each in tasks]
        )
    return path


def encoded_path(
    task: Task,
    split: str,
    source: Split,
    *,
    tokenizer: PreTrainedTokenizerFast,
    encoding: Encoding,
    max_length: int,
    cache: Path,
    labelled: bool,
    augmentation: Augmentation | None,
    seed: int,
    others: Sequence[Task] = (),
) -> Path:
    """The file that `encode` writes for the split `source`; the arguments are those of `encode`."""
    fields = _relevant_fields(task)
    key = [
        FORMAT,
        _digest(tokenizer),
        encoding.key(task),
        max_length,
        fields,
        source.fingerprint,
        labelled,
    ]
    key += [[asdict(augmentation), seed]] if augmentation else []
    key += [[_relevant_fields(other) for other in others]] if others else []
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return cache / f"{task.name}-{split}-{name}.arrow"


def _relevant_fields(task: Task) -> dict[str, Any]:
    return {name: value for name, value in asdict(task).items() if name not in IRRELEVANT_FIELDS}


@lru_cache(maxsize=4)
def _digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Identifies the tokenizer's definition without truncation and padding, as its last call set.

    Kept for each tokenizer, because writing a vocabulary takes longer than opening a split.
    """
    settings: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    settings |= {"truncation": None, "padding": None}
    settings |= {"mask_token": None} if tokenizer.mask_token is None else {}  # other prompts
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()
