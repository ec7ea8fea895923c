"""How the labels of words are read: one tag per word, or spans of characters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.errors import did_you_mean, shorten
from mtl.tasks.label_readers import LabelError, LabelReader
from mtl.tasks.tags import OUTSIDE, Scheme, from_iob1

Words = list[tuple[int, int]]


class TagReader(LabelReader):
    """Reads the tags of a text's words.

    Args:
        tags: Names of the tags.
        scheme: The scheme of the column, or `spans`.
        aliases: The class that a type or tag of the column stands for.
        words: Start and end of each word of a text.
    """

    def __init__(
        self,
        tags: Sequence[str],
        scheme: Scheme,
        aliases: Mapping[str, str],
        words: Callable[[str], Words],
    ) -> None:
        self.scheme, self.aliases, self.words = scheme, aliases, words
        self._indices = {name: index for index, name in enumerate(tags)}

    def __call__(self, value: Any) -> list[int] | None:
        """The index of each word's tag; None if the text has no labels.

        Args:
            value: The text, or its words, and the label.
        """
        text, label = value
        if label is None:
            return None
        if self.scheme == "spans":
            names = self._from_spans(str(text), label)
        else:
            names = self._from_tags(joined_words(text), label)
        return [self._indices[name] for name in names]

    def _from_tags(self, text: str, label: Any) -> list[str]:
        tags = label.split() if isinstance(label, str) else label
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise LabelError(
                f"label {shorten(label)} is not a list of tags, such as ['O', 'B-person']",
                column=True,
            )
        count = len(self.words(text))
        if len(tags) != count:
            raise LabelError(f"{len(tags)} tags for {count} words: {shorten(tags)}")
        if self.aliases:
            tags = [self._renamed(tag) for tag in tags]
        for tag in tags:
            self._check(tag)
        return from_iob1(tags) if self.scheme == "IOB1" else tags

    def _renamed(self, tag: str) -> str:
        if tag in self.aliases:
            return self.aliases[tag]
        prefix, hyphen, name = tag.partition("-")
        return f"{prefix}-{self.aliases.get(name, name)}" if hyphen else tag

    def _from_spans(self, text: str, label: Any) -> list[str]:
        if not isinstance(label, list):
            raise LabelError(
                f"label {shorten(label)} is not a list of spans, such as [[0, 3, 'person']]",
                column=True,
            )
        words = self.words(text)
        tags = [OUTSIDE] * len(words)
        for start, end, name in sorted(self._span(span, text) for span in label):
            inside = [
                index for index, word in enumerate(words) if word[1] > start and word[0] < end
            ]
            shown = f"span [{start}, {end}] {shorten(text[start:end])}"
            if not inside or words[inside[0]][0] != start or words[inside[-1]][1] != end:
                raise LabelError(
                    f"{shown} does not begin and end with a word of the text; correct its ends "
                    "(counted in characters from 0, the end exclusive)"
                )
            if any(tags[index] != OUTSIDE for index in inside):
                raise LabelError(f"{shown} overlaps another span; keep one of them")
            name = self.aliases.get(name, name)
            self._check_type(name)
            tags[inside[0] : inside[-1] + 1] = [f"B-{name}", *[f"I-{name}"] * (len(inside) - 1)]
        return tags

    def _check_type(self, name: str) -> None:
        classes = [tag.removeprefix("B-") for tag in self._indices if tag.startswith("B-")]
        if name not in classes:
            hint = did_you_mean(name, classes) or (
                " Add it to the task's classes, or map it to one of them in source.labels."
            )
            raise LabelError(
                f"span label {shorten(name)} is not one of the classes {classes}.{hint}",
                unknown=shorten(name),
            )

    def _span(self, span: Any, text: str) -> tuple[int, int, str]:
        values = (
            [span.get(key) for key in ("start", "end", "label")] if isinstance(span, dict) else span
        )
        match values:
            case [int() as start, int() as end, str() as name] if 0 <= start < end <= len(text):
                return start, end, name
        raise LabelError(
            f"span {shorten(span)} is not [start, end, label] or an object with these keys, with "
            f"0 <= start < end <= {len(text)}"
        )

    def _check(self, name: str) -> None:
        if name in self._indices:
            return
        hint = (
            did_you_mean(name, self._indices)
            or " Add its type to the task's classes, or map it to one of them in source.labels."
        )
        raise LabelError(
            f"tag {shorten(name)} does not fit the classes and the tag scheme {self.scheme}.{hint}",
            unknown=shorten(name),
        )


def joined_words(value: Any) -> Any:
    """The text of a list of words; another value is returned unchanged."""
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    return value


def word_fault(value: Any) -> str | None:
    """What is wrong with a list of words; None if it can be used."""
    if isinstance(value, list):
        for index, word in enumerate(value, 1):
            if not isinstance(word, str) or len(word.split()) != 1 or word.split()[0] != word:
                return (
                    f"word {index} is {shorten(word)}; a word is text without white space: remove "
                    "or rejoin it"
                )
    return None
