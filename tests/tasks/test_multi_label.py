"""Labels of multi-label tasks: how they are read, and what their kind does with them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.tasks import LabelError, MultiLabel, Task

TAGS = MultiLabel(["refund", "legal", "vip"])


@given(st.lists(st.lists(st.sampled_from(range(3)), unique=True), min_size=1))
def test_every_form_of_a_label_is_read_as_the_same_vector(sets: list[list[int]]) -> None:
    vectors = [[float(index in each) for index in range(3)] for each in sets]
    names = [[TAGS.classes[index] for index in each] for each in sets]
    columns = MultiLabel(TAGS.classes, columns=["a", "b", "c"]).label_reader({})
    forms: list[tuple[Any, list[Any]]] = [
        (TAGS.label_reader({}), names),
        (TAGS.label_reader({}), sets),
        (TAGS.label_reader({}), [np.array(each, int) for each in sets]),
        (TAGS.label_reader({}), [[int(each) for each in vector] for vector in vectors]),
        (TAGS.label_reader({}), [" , ".join(each) for each in names]),
        (TAGS.label_reader({}), [",".join(map(str, each)) for each in sets]),
        (MultiLabel(TAGS.classes, separator="|").label_reader({}), ["|".join(n) for n in names]),
        (columns, [tuple(str(int(each)) for each in vector) for vector in vectors]),
    ]
    for reader, values in forms:
        assert [reader(value) for value in values] == vectors


@pytest.mark.parametrize("value", [None, float("nan"), "-", "None"])
def test_a_missing_label_is_not_an_empty_one(value: Any) -> None:
    assert TAGS.label_reader({})(value) is None
    assert TAGS.label_reader({})("") == TAGS.label_reader({})([]) == [0, 0, 0]
    array = TAGS.label_array([None, [0, 0, 0]])
    assert TAGS.is_labelled(array).tolist() == [False, True]


def test_labels_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(LabelError, match="'refunds' is not one of the classes"):
        TAGS.label_reader({})(["refunds"])
    with pytest.raises(LabelError, match="column 'b' holds '2'; write 0 or 1"):
        MultiLabel(["x", "y"], columns=["a", "b"]).label_reader({})((1, "2"))


@pytest.mark.parametrize("first", [True, False], ids=["vector first", "classes first"])
@pytest.mark.parametrize("value", [["1"], "1", "0,1", [0], [1, 1, 0], ["0", "1"]])
def test_a_column_holds_either_classes_or_vectors(value: Any, first: bool) -> None:
    reader = MultiLabel(["0", "1"]).label_reader({})
    values = [[1, 0], value] if first else [value, [1, 0]]
    assert reader([]) == reader("") == [0, 0]  # may occur next to both
    reader(values[0])
    with pytest.raises(LabelError, match=r"mixes classes \(.*\) and lists with 0 or 1 .*\[1, 0\]"):
        reader(values[1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": "tags"}, "name the classes"),
        ({"labels": ["a", "b"], "classes": ["x", "y", "z"]}, "one column for each of the 3"),
        ({"thresholds": "tuned", "classes": ["x", "y"]}, "are for tasks with `labels`"),
        ({"labels": "tags", "classes": ["x", "y"], "metrics": ["accuracy"]}, "do not fit"),
        ({"range": (0, 1), "metrics": ["mae"]}, "smaller values of these are better"),
    ],
)
def test_fields_that_contradict_one_another_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Task("t", ["text"], **fields)


def test_predictions_survive_being_written_and_read() -> None:
    outputs = [0.5, 0.1, 0.9]
    record = TAGS.record(outputs)
    assert record["prediction"] == ["refund", "vip"]
    assert TAGS.outputs(record) == outputs
    assert TAGS.label(TAGS.label_value([1.0, 0.0, 1.0])) == [1.0, 0.0, 1.0]
    assert TAGS.csv_cells(outputs) == ["refund, vip", 0.5, 0.1, 0.9]
    cells = TAGS.comparison_cells(outputs, [0, 1, 1])
    assert cells == ["legal, vip", "refund, vip", "refund 0.500, legal 0.100, vip 0.900"]
    assert TAGS.comparison_cells([0.1, 0.2, 0.3], [0, 1, 0]) == ["legal", "(none)", "legal 0.200"]


def test_the_k_shot_class_of_an_example_is_its_rarest() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0], [0, 1, 0]])
    assert TAGS.k_shot_classes(labels.astype(float)).tolist() == [0, 0, 2, 2, -1, 1]
