"""Encodings turn examples into token ids."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerFast

from mtl.data.checks import Example
from mtl.data.choice_encoding import encode_choices
from mtl.data.token_encoding import encode_words
from mtl.data.truncation import encode_texts, encode_truncated
from mtl.errors import UserError
from mtl.tasks import Task, TokenLabels
from mtl.tasks.prompts import fill_template, shortest_prompt
from mtl.tasks.templates import parse_template

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

    def length_option(self, task: Task) -> str:
        """The option or field that sets `length_limit`, as errors name it."""
        return f"task {task.name!r}: max_length" if task.max_length else "--data.max_length"

    def shortest_length(self, tokenizer: PreTrainedTokenizerFast, task: Task) -> int:
        """The smallest maximum length that keeps a token of each of the example's texts."""
        texts = 2 if task.choices else len(task.texts)  # a candidate is the second of a pair
        return tokenizer.num_special_tokens_to_add(pair=texts == 2) + texts

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

    def length_option(self, task: Task) -> str:
        """The option or field that sets `length_limit`, as errors name it."""
        if task.prompt and task.prompt.max_length:
            return f"task {task.name!r}: prompt.max_length"
        return super().length_option(task)

    def shortest_length(self, tokenizer: PreTrainedTokenizerFast, task: Task) -> int:
        """The smallest maximum length that keeps the template and a token of each text in it."""
        return shortest_prompt(task, parse_template(task), tokenizer)

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


def check_lengths(
    encoding: Encoding, tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task], max_length: int
) -> None:
    """Checks that the maximum length of every task leaves room for its texts.

    Args:
        encoding: How examples become token ids.
        tokenizer: The backbone's tokenizer.
        tasks: The tasks.
        max_length: Maximum number of tokens of an example, unless the task has its own.

    Raises:
        UserError: If not a single token of a text would be left.
    """
    for task in tasks:
        length = encoding.length_limit(task, max_length)
        if length < (shortest := encoding.shortest_length(tokenizer, task)):
            raise UserError(
                f"{encoding.length_option(task)} {length}: leaves no room for texts: with a single "
                f"token of each text, an example of task {task.name!r} has {shortest} tokens; give "
                f"{shortest} or more"
            )
