"""How the values of a label column are read: class names, class indices, or numbers."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mtl.errors import did_you_mean, shorten

# Values that mean "no label" unless the task declares them as a class or maps them in
# `source.labels`.
MISSING = ("", "-", "None")
# Data sets on the hub write a missing label as -1.
MISSING_NUMBER = ("-1", "-1.0")
# Plain ASCII numbers only: Python's `float` also reads "1_0", full-width digits and "nan".
CLASS_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TARGET_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

Key = TypeVar("Key", str, float)


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
    """Reads the values of one label column, all by the same rule: make one reader per column."""

    @abstractmethod
    def __call__(self, value: Any) -> int | float | None:
        """The class index or target; None if the value means that the example has no label.

        Raises:
            LabelError: If the value cannot be read.
        """


class ClassReader(LabelReader):
    """Reads class labels: names (as text, or as the same number), or indices counted from 0.

    A column holds either names or indices, never both. If a class name is a number, the column
    holds names. Booleans match only the class names `true` and `false`, in any case. A declared
    class and a value in `aliases` are always labels; only other values can mean "no label".

    Args:
        classes: Names of the classes.
        aliases: The class that a value stands for.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str]) -> None:
        self.classes = classes
        self._by_name = {name: index for index, name in enumerate(classes)}
        self._aliases = {value: self._by_name[name] for value, name in aliases.items()}
        self._by_truth = _unambiguous(
            (name.lower(), index)
            for name, index in self._by_name.items()
            if name.lower() in ("true", "false")
        )
        self._by_number = _unambiguous(
            (float(name), index)
            for name, index in self._by_name.items()
            if CLASS_NUMBER.fullmatch(name)
        )
        self._numbered = any(map(CLASS_NUMBER.fullmatch, classes))
        # The first value that was read as a name, and the first that was read as an index.
        self._first: dict[str, str] = {}

    def __call__(self, value: Any) -> int | None:
        """The class index; None if the example has no label."""
        if str(value) in self._aliases:
            return self._aliases[str(value)]
        if value is None:
            return None
        text = str(value).strip()
        if (index := self._index_of_name(value, text)) is not None:
            return self._consistent("name", text, index)
        if (index := self._index(text)) is not None:
            return self._consistent("index", text, index)
        if text in MISSING or text in MISSING_NUMBER:
            return None
        hint = (
            did_you_mean(text, self.classes)
            or " Add it to the task's classes, or map it to one of them in source.labels."
        )
        raise LabelError(
            f"label {shorten(value)} is not one of the classes {list(self.classes)}.{hint}",
            unknown=shorten(value),
        )

    def _index_of_name(self, value: Any, text: str) -> int | None:
        if isinstance(value, bool):
            return self._by_truth.get(text.lower())
        if text in self._by_name:
            return self._by_name[text]
        if CLASS_NUMBER.fullmatch(text):
            return self._by_number.get(float(text))
        return self._by_truth.get(text.lower())

    def _index(self, text: str) -> int | None:
        if self._numbered or not CLASS_NUMBER.fullmatch(text):
            return None
        number = float(text)
        in_range = number.is_integer() and 0 <= number < len(self.classes)
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
        if value is None or text in self._missing:
            return None
        if isinstance(value, float):
            target = value
        elif not isinstance(value, bool) and TARGET_NUMBER.fullmatch(text):
            target = float(text)
        else:
            raise LabelError(f"target {shorten(value)} is not a number")
        if not self.low <= target <= self.high:  # also the case for NaN
            raise LabelError(
                f"target {shorten(value)} is outside the task's range [{self.low:g}, {self.high:g}]"
            )
        return target


def _unambiguous(pairs: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """The pairs whose key occurs once: the classes `1` and `1.0` can be matched as text only."""
    pairs = list(pairs)
    counts = Counter(key for key, _ in pairs)
    return {key: index for key, index in pairs if counts[key] == 1}
