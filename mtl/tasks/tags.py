"""Tag schemes of token labels: tags of words, and the entities that they stand for."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Scheme = Literal["IOB2", "IOB1", "IOBES", "plain", "spans"]

Tags = npt.NDArray[np.int64]

OUTSIDE = "O"
# The prefixes of each scheme's tags that a model predicts. IOB1 and spans become IOB2.
PREFIXES = {"IOB2": "BI", "IOB1": "BI", "spans": "BI", "IOBES": "BIES"}


def tag_names(classes: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    """The tags that a model predicts, `O` first; in the scheme `plain`, the classes."""
    if scheme == "plain":
        return tuple(classes)
    return (OUTSIDE, *(f"{prefix}-{name}" for name in classes for prefix in PREFIXES[scheme]))


def from_iob1(tags: Sequence[str]) -> list[str]:
    """The same entities in IOB2: in IOB1, B- is used only directly after an entity of the type."""
    converted, before = [], OUTSIDE
    for tag in tags:
        prefix, _, name = tag.partition("-")
        starts = prefix == "I" and before.partition("-")[2] != name
        converted.append(f"B-{name}" if starts else tag)
        before = tag
    return converted


class Entities(NamedTuple):
    """The entities of several tag sequences, one entry per entity.

    Attributes:
        sequences: Index of the sequence.
        starts: Index of the first word.
        stops: Index after the last word.
        types: Index of the entity's type.
    """

    sequences: Tags
    starts: Tags
    stops: Tags
    types: Tags


class EntityFinder:
    """Finds the entities in tag sequences as the CoNLL scorer does, in broken sequences too.

    An entity starts at B and S, after an entity of another type, and at any tag after O, E and S.

    Source: the script `conlleval` of CoNLL-2000; the library seqeval in its default mode.

    Args:
        tags: The tags, by index: `O`, or prefix, hyphen and type.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        parts = [tag.partition("-") for tag in tags]
        self.types = tuple(dict.fromkeys(name for _, _, name in parts if name))
        self._prefix = np.array([prefix for prefix, _, _ in parts])
        self._type = np.array([self.types.index(name) if name else -1 for _, _, name in parts])

    def __call__(self, tags: Tags) -> Entities:
        """The entities of sequences of tag indices, shape (sequences, words); -1 counts as O."""
        outside = np.full((len(tags), 1), -1)
        padded = np.concatenate([outside, tags, outside], 1)
        type_ = np.where(padded < 0, -1, self._type[padded])
        prefix = np.where(type_ < 0, OUTSIDE, self._prefix[padded])
        changes = type_[:, 1:] != type_[:, :-1]
        changes |= np.isin(prefix[:, 1:], ["B", "S"]) | np.isin(prefix[:, :-1], ["E", "S"])
        inside = type_[:, 1:-1] >= 0
        sequences, starts = np.nonzero(inside & changes[:, :-1])
        _, last = np.nonzero(inside & changes[:, 1:])
        return Entities(sequences, starts, last + 1, type_[:, 1:-1][sequences, starts])


def entity_counts(finder: EntityFinder, predicted: Tags, labels: Tags) -> npt.NDArray[np.int64]:
    """Counts of correct, predicted and labelled entities, (sequences, types, 3).

    Args:
        finder: Finds the entities.
        predicted: Predicted tags, shape (sequences, words).
        labels: Labels, shape (sequences, words); words whose label is missing (-1) do not count.
    """
    counts = np.zeros((len(labels), max(1, len(finder.types)), 3), np.int64)
    found = [finder(np.where(labels < 0, -1, tags)) for tags in (predicted, labels)]
    keys = [dict.fromkeys(zip(*map(_listed, each), strict=True)) for each in found]
    for index, entities in enumerate(found):
        np.add.at(counts[:, :, index + 1], (entities.sequences, entities.types), 1)
    for sequence, _, _, type_ in keys[0].keys() & keys[1].keys():
        counts[sequence, type_, 0] += 1
    return counts


def _listed(values: Any) -> list[int]:
    listed: list[int] = values.tolist()
    return listed
