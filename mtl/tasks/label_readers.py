"""How the values of a label column are read: class names, class indices, or numbers."""

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from unicodedata import normalize

from mtl.errors import did_you_mean, shorten

# Values that mean "no label" unless the task declares them as a class or maps them in
# `source.labels`.
MISSING = ("", "-", "None")
# Data sets on the hub write a missing label as -1.
MISSING_NUMBER = ("-1", "-1.0")
# Plain ASCII numbers only: Python's `float` also reads "1_0", full-width digits and "nan".
CLASS_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TARGET_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

Key = TypeVar("Key", str, Decimal)


class LabelError(ValueError):
    """A value of a label column cannot be read.

    Attributes:
        unknown: The value as shown, if it is not one of the task's classes; empty for other faults.
        column: Whether the fault is the column's, so that reading on would only repeat it.
    """

    def __init__(self, message: str, unknown: str = "", column: bool = False) -> None:
        super().__init__(message)
        self.unknown, self.column = unknown, column


class LabelReader(ABC):
    """Reads the values of one label column, all by the same rule: make one reader per column.

    A task with several label columns has one reader, which gets their values as a tuple.
    """

    @abstractmethod
    def __call__(self, value: Any) -> Any:
        """The class index, target or list; None if the value means that there is no label.

        Raises:
            LabelError: If the value cannot be read.
        """


class _Names:
    """Names that values stand for: as the same text, number, or truth value.

    Args:
        indices: The class index of each name.
    """

    def __init__(self, indices: Mapping[str, int]) -> None:
        self._by_text = indices
        self._by_truth = _unambiguous(
            (name.lower(), index) for name, index in indices.items() if _is_truth(name)
        )
        # Exact numbers: as floats, 9007199254740993 and 9007199254740992 are equal.
        self._by_number = _unambiguous(
            (Decimal(name), index)
            for name, index in indices.items()
            if CLASS_NUMBER.fullmatch(name)
        )

    def index(self, value: Any, text: str) -> int | None:
        """The class index of a value; None if no name stands for it.

        Args:
            value: The value.
            text: The value as text, without white space around it.
        """
        if isinstance(value, bool):
            return self._by_truth.get(text.lower())
        if text in self._by_text:
            return self._by_text[text]
        if CLASS_NUMBER.fullmatch(text):
            return self._by_number.get(Decimal(text))
        return self._by_truth.get(text.lower())


class ClassReader(LabelReader):
    """Reads class labels: names (as text, or as the same number), or indices counted from 0.

    A column holds either names or indices, never both. If a class or a value in `aliases` is called
    by a number, `true` or `false`, the column holds names. Booleans match only the names `true` and
    `false`, in any case. A declared class and a value in `aliases` are always labels; only other
    values can mean "no label".

    Args:
        classes: Names of the classes.
        aliases: The class that a value stands for.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str]) -> None:
        self.classes = classes
        indices = {name: index for index, name in enumerate(classes)}
        self._names = _Names(indices)
        self._aliases = _Names({value.strip(): indices[name] for value, name in aliases.items()})
        # -1 is never an index, so that mapping it leaves the others readable.
        self._indexed = not any(
            _is_truth(name) or CLASS_NUMBER.fullmatch(name) for name in classes
        ) and not any(
            _is_truth(value) or (CLASS_NUMBER.fullmatch(value) and Decimal(value) >= 0)
            for value in map(str.strip, aliases)
        )
        # The first value that was read as a name, and the first that was read as an index.
        self._first: dict[str, str] = {}

    def __call__(self, value: Any) -> int | None:
        """The class index; None if the example has no label."""
        if is_null(value):
            return None
        text = str(value).strip()
        if (index := self._aliases.index(value, text)) is not None:
            return index
        if (index := self._names.index(value, text)) is not None:
            return self._consistent("name", text, index)
        if (index := self._index(text)) is not None:
            return self._consistent("index", text, index)
        if text in MISSING or text in MISSING_NUMBER:
            return None
        raise LabelError(
            f"label {shorten(value)} is not one of the classes {list(self.classes)}."
            f"{self._hint(text)}",
            unknown=shorten(value),
        )

    def _hint(self, text: str) -> str:
        """What to do about a label that is not one of the classes."""
        if normalize("NFC", text) in {normalize("NFC", name) for name in self.classes}:
            return " One of them differs in its Unicode form only; write both in the form NFC."
        return (
            did_you_mean(text, self.classes)
            or " Add it to the task's classes, or map it to one of them in source.labels."
        )

    def _index(self, text: str) -> int | None:
        if not self._indexed or not CLASS_NUMBER.fullmatch(text):
            return None
        number = Decimal(text)
        in_range = number == number.to_integral_value() and 0 <= number < len(self.classes)
        return int(number) if in_range else None

    def _consistent(self, reading: str, text: str, index: int) -> int:
        self._first.setdefault(reading, text)
        if len(self._first) > 1:
            raise LabelError(
                f"the label column mixes class names ({self._first['name']!r}) and class indices "
                f"({self._first['index']!r}); "
                "write class names only, or map the other values in source.labels",
                column=True,
            )
        return index


class TargetReader(LabelReader):
    """Reads regression targets.

    Args:
        low: Lowest target.
        high: Highest target.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._missing = MISSING + (MISSING_NUMBER if low > -1 else ())

    def __call__(self, value: Any) -> float | None:
        """The target; None if the example has no label."""
        text = str(value).strip()
        if is_null(value) or text in self._missing:
            return None
        if isinstance(value, float):
            target = value
        elif not isinstance(value, bool) and TARGET_NUMBER.fullmatch(text):
            target = float(text)
        else:
            raise LabelError(f"target {shorten(value)} is not a number; write one such as 1.5")
        if not self.low <= target <= self.high:
            raise LabelError(
                f"target {shorten(value)} is outside the task's range [{self.low:g}, {self.high:g}]"
            )
        return target


def is_null(value: Any) -> bool:
    """Whether a value is missing: a null, or NaN, which pandas and Polars write for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_truth(name: str) -> bool:
    return name.lower() in ("true", "false")


def _unambiguous(pairs: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """The pairs whose key occurs once: the classes `1` and `1.0` can be matched as text only."""
    pairs = list(pairs)
    counts = Counter(key for key, _ in pairs)
    return {key: index for key, index in pairs if counts[key] == 1}
