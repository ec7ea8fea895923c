"""What is known of the examples of a split without their token ids: labels, rows, texts."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from mtl.data.checks import Example
from mtl.data.permutation import Ints


class Report(NamedTuple):
    """What became of a split's examples.

    Attributes:
        where: The file or data set.
        fingerprint: Changes whenever the examples do.
        rows: Number of usable examples.
        truncated: Number of these that were cut to the maximum length.
        tokens: Number of tokens of all examples together.
        dropped: Number of dropped examples by fault.
        cut_labels: Number of words' labels that were cut with the texts.
    """

    where: str
    fingerprint: str
    rows: int
    truncated: int
    tokens: int
    dropped: dict[str, int]
    cut_labels: int = 0


class SplitExamples:
    """The examples of a split, without token ids.

    Attributes:
        report: What became of the split's examples.
        labels: Label array (`TaskKind`): class indices or targets, shape (examples, ...).
        numbers: Row of each example in the split, shape (examples,); negative for augmented copies.
        texts: Hash of each example's texts, shape (examples,): equal texts have equal hashes.
    """

    report: Report
    labels: npt.NDArray[Any]
    numbers: Ints
    texts: Ints

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> Ints:
        """Index of each example in the file, shape (examples,)."""
        return np.arange(len(self))

    @property
    def file_numbers(self) -> Ints:
        """`numbers` of all examples of the file, of which these may be a subset."""
        return self.numbers

    def subset(self, chosen: Ints) -> Self:
        """The examples with these indices, in this order."""
        raise NotImplementedError


class UnencodedSplit(SplitExamples):
    """Examples that were read, but not encoded; other arguments as the attributes.

    Args:
        sample: Some of the split's examples, to be encoded.
    """

    def __init__(
        self,
        report: Report,
        labels: npt.NDArray[Any],
        numbers: Ints,
        texts: Ints,
        sample: Sequence[Example] = (),
    ) -> None:
        self.report, self.labels, self.numbers, self.texts = report, labels, numbers, texts
        self.sample = sample

    def subset(self, chosen: Ints) -> "UnencodedSplit":
        """The examples with these indices, in this order."""
        return UnencodedSplit(
            self.report, self.labels[chosen], self.numbers[chosen], self.texts[chosen], self.sample
        )


def text_hash(texts: Sequence[str]) -> int:
    """A 64-bit hash of an example's texts, ignoring white space around them."""
    joined = "\x1f".join(text.strip() for text in texts)
    digest = hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
