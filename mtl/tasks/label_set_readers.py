"""How the values of multi-label columns are read: lists, 0/1 vectors, separated texts, columns."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mtl.errors import shorten
from mtl.tasks.label_readers import MISSING, ClassReader, LabelError, LabelReader, is_null


class LabelSetReader(LabelReader):
    """Reads the classes of an example from one column.

    A value is a list of class names or class indices, a list with 0 or 1 for each class, or a text
    with separated names or indices. All values of a column are read in the same way. An empty list
    or text stands for none of the classes; a null, `-` or `None` means that there is no label.

    Args:
        classes: Names of the classes.
        aliases: The class that a value stands for.
        separator: Separates the classes in a text.
    """

    def __init__(self, classes: Sequence[str], aliases: Mapping[str, str], separator: str) -> None:
        self.classes, self.separator = classes, separator
        self._read_class = ClassReader(classes, aliases)
        # The first value that names classes, and the first with 0 or 1 for each class.
        self._first: dict[Literal["classes", "vector"], Any] = {}

    def __call__(self, value: Any) -> list[float] | None:
        """0 or 1 for each class; None if the example has no label."""
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return self._list(value)
        if is_null(value) or str(value).strip() in set(MISSING) - {""}:
            return None
        text = str(value).strip()
        parts = [part for part in text.split(self.separator) if part.strip()]
        if parts:
            self._check_notation("classes", value)
        return self._set(parts)

    def _list(self, values: Sequence[Any]) -> list[float]:
        if not values:
            return self._set(values)
        if self._is_vector(values):
            self._check_notation("vector", values)
            return [float(value) for value in values]
        self._check_notation("classes", values)
        return self._set(values)

    def _is_vector(self, values: Sequence[Any]) -> bool:
        """Whether a list has 0 or 1 for each class; [0, 1] of two classes is such a vector."""
        numbers = all(isinstance(value, int | float) and value in (0, 1) for value in values)
        return numbers and len(values) == len(self.classes)

    def _check_notation(self, notation: Literal["classes", "vector"], value: Any) -> None:
        """Checks that the column does not mix notations: [1, 0] may stand for either."""
        self._first.setdefault(notation, value)
        if len(self._first) > 1:
            raise LabelError(
                f"the label column mixes classes ({shorten(self._first['classes'])}) and lists "
                f"with 0 or 1 for each class ({shorten(self._first['vector'])}); write class names "
                "instead",
                column=True,
            )

    def _set(self, values: Sequence[Any]) -> list[float]:
        label = [0.0] * len(self.classes)
        for value in values:
            index = self._read_class(value)
            if index is None:
                raise LabelError(f"one of the labels {shorten(values)} is {value!r}; remove it")
            label[index] = 1.0
        return label


class ColumnsReader(LabelReader):
    """Reads one 0/1 column for each class.

    Args:
        columns: Names of the columns.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns

    def __call__(self, value: Any) -> list[float] | None:
        """0 or 1 for each class; None if no column has a value."""
        missing = [is_null(each) or str(each).strip() in MISSING for each in value]
        if all(missing):
            return None
        return [self._entry(column, each) for column, each in zip(self.columns, value, strict=True)]

    def _entry(self, column: str, value: Any) -> float:
        text = str(value).strip().lower()
        if text not in _TRUTH:
            raise LabelError(f"column {column!r} holds {shorten(value)}; write 0 or 1")
        return _TRUTH[text]


_TRUTH = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
