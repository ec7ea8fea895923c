import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mtl.metric_functions import METRICS
from mtl.tasks import Classification, LabelError, Prediction, Regression, Task, TaskKind

COLOURS = Classification(["red", "green", "blue"])
DEGREES = Regression(0, 5)


def read(kind: TaskKind, values: list[Any], **aliases: str) -> list[int | float | None]:
    reader = kind.label_reader(aliases)
    return [reader(value) for value in values]


CLASS_NAMES = st.lists(
    st.one_of(
        st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1).map(str.strip),
        st.integers(-9, 99).map(str),
        st.sampled_from(["None", "-", "-1", "true", "1.0", "\u0661"]),
    ).filter(bool),
    min_size=2,
    max_size=6,
    unique=True,
)


@given(CLASS_NAMES)
def test_every_declared_class_is_read_as_itself(classes: list[str]) -> None:
    assert read(Classification(classes), list(classes)) == list(range(len(classes)))


@given(CLASS_NAMES, st.lists(st.one_of(st.integers(-2, 9), st.integers(-2, 9).map(float))))
def test_indices_are_read_only_if_no_class_is_a_number(
    classes: list[str], values: list[float]
) -> None:
    reader = Classification(classes).label_reader({})
    numbers = [float(name) for name in classes if re.fullmatch(r"-?\d+(\.\d+)?", name)]
    assume(all(name.isascii() for name in classes))
    for value in values:
        try:
            index = reader(value)
        except LabelError:
            assert value not in numbers or numbers.count(value) > 1
            continue
        if value in numbers and index is not None:
            assert float(classes[int(index)]) == value
        elif index is not None:
            assert not numbers
            assert index == value


@given(st.lists(st.integers(1, 5), min_size=1))
def test_a_float_column_means_the_same_classes_as_an_integer_column(stars: list[int]) -> None:
    kind = Classification(["1", "2", "3", "4", "5"])
    expected = [star - 1 for star in stars]
    for column in (
        stars,
        [float(s) for s in stars],
        [str(s) for s in stars],
        [f"{s}.0" for s in stars],
    ):
        assert read(kind, list(column)) == expected


def test_float_labels_are_the_classes_of_the_same_number() -> None:
    assert read(Classification(["1", "0"]), ["1.0", "0.0", 1.0, 0]) == [0, 1, 0, 1]


def test_an_index_that_is_not_among_numbered_classes_is_refused() -> None:
    with pytest.raises(LabelError, match=r"label 0 is not one of the classes \['1', '2'\]"):
        read(Classification(["1", "2"]), [0])
    with pytest.raises(LabelError, match="label '1' is not one of the classes"):
        read(Classification(["low", "2"]), ["low", "1"])


def test_indices_of_named_classes_count_from_zero() -> None:
    assert read(COLOURS, [0, "1", "2.0", 1.0]) == [0, 1, 2, 1]


@pytest.mark.parametrize("column", [["red", 1], ["1", "red"], [0, 2, "blue"]])
def test_a_column_of_names_and_indices_is_refused(column: list[Any]) -> None:
    with pytest.raises(LabelError, match="mixes class names .* and class indices") as refused:
        read(COLOURS, column)
    assert refused.value.column


def test_each_column_is_interpreted_on_its_own() -> None:
    assert read(COLOURS, ["red", "blue"]) == [0, 2]
    assert read(COLOURS, [0, 2]) == [0, 2]


def test_aliases_are_neither_names_nor_indices() -> None:
    assert read(COLOURS, ["r", "green"], r="red") == [0, 1]
    assert read(COLOURS, ["r", 1], r="red") == [0, 1]


@pytest.mark.parametrize("value", ["-", "None", "", "-1", "-1.0", -1, -1.0, None, " - "])
def test_undeclared_missing_values_mean_no_label(value: Any) -> None:
    assert read(COLOURS, [value]) == [None]
    assert read(DEGREES, [value]) == [None]


@pytest.mark.parametrize("value", ["-", "None", "-1"])
def test_declared_and_aliased_missing_values_are_labels(value: str) -> None:
    assert read(Classification(["a", value]), [value]) == [1]
    assert read(COLOURS, [value], **{value: "blue"}) == [2]


@pytest.mark.parametrize("kind", [Classification(["a", "nan"]), DEGREES, COLOURS])
def test_nan_as_a_number_is_a_missing_value_whatever_the_classes(kind: TaskKind) -> None:
    assert read(kind, [math.nan]) == [None]


def test_a_class_called_nan_is_read_from_text() -> None:
    assert read(Classification(["a", "nan"]), ["nan", "a"]) == [1, 0]


@pytest.mark.parametrize("value", ["1", 1, 1.0, "1.0", " 1 "])
def test_an_alias_that_is_a_number_stands_for_every_spelling_of_it(value: Any) -> None:
    assert read(Classification(["a", "b"]), [value], **{"1": "a"}) == [0]


@pytest.mark.parametrize("aliases", [{"1": "red"}, {"3": "blue"}, {"true": "red"}])
def test_numbers_are_no_indices_if_an_alias_is_a_number_or_a_truth_value(
    aliases: dict[str, str],
) -> None:
    with pytest.raises(LabelError, match="label 0 is not one of the classes"):
        read(COLOURS, [0], **aliases)
    assert read(COLOURS, [0, -1], **{"-1": "blue"}) == [0, 2]


@pytest.mark.parametrize("value", [True, "true", "TRUE"])
@pytest.mark.parametrize("alias", ["true", "True"])
def test_a_boolean_alias_is_compared_ignoring_case(alias: str, value: Any) -> None:
    assert read(COLOURS, [value], **{alias: "green"}) == [1]


def test_indices_of_classes_called_true_and_false_are_refused() -> None:
    with pytest.raises(LabelError, match="label 1 is not one of the classes"):
        read(Classification(["True", "False"]), [1])


def test_numbers_too_large_for_floats_are_compared_exactly() -> None:
    large = Classification(["9007199254740993", "1"])
    assert read(large, ["9007199254740993.0"]) == [0]
    with pytest.raises(LabelError, match="label '9007199254740992' is not one"):
        read(large, ["9007199254740992"])


def test_a_json_null_means_no_label_even_if_a_class_is_called_none() -> None:
    assert read(Classification(["Favor", "None"]), [None, "None"]) == [None, 1]


@pytest.mark.parametrize("name", ["true", "True", "TRUE"])
def test_booleans_match_the_classes_true_and_false_in_any_case(name: str) -> None:
    kind = Classification(["false", name])
    assert read(kind, [True, False, "TRUE", "false", "True"]) == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("classes", [["no", "yes"], ["0", "1"], ["off", "on"]])
def test_booleans_match_no_other_class(classes: list[str]) -> None:
    with pytest.raises(LabelError, match="label True is not one of the classes"):
        read(Classification(classes), [True])


@pytest.mark.parametrize(
    "value", ["0_1", "+1", "1e0", "\uff11", "\u0661", "0x1", "1.", "nan", "inf"]
)
def test_only_plain_ascii_numbers_are_class_indices(value: str) -> None:
    with pytest.raises(LabelError, match="is not one of the classes"):
        read(COLOURS, [value])
    with pytest.raises(LabelError, match="is not one of the classes"):
        read(Classification(["0", "1"]), [value])


def test_classes_that_are_the_same_number_are_told_apart_by_text() -> None:
    kind = Classification(["1", "1.0"])
    assert read(kind, ["1", "1.0"]) == [0, 1]
    with pytest.raises(LabelError):
        read(kind, ["1.00"])


def test_a_class_in_another_unicode_form_is_reported_as_such() -> None:
    with pytest.raises(LabelError, match="differs in its Unicode form only"):
        read(Classification(["caf\u00e9", "bar"]), ["cafe\u0301"])


def test_an_unknown_label_is_reported_with_the_nearest_class() -> None:
    with pytest.raises(
        LabelError, match=r"\['red', 'green', 'blue'\]. Did you mean 'green'"
    ) as refused:
        read(COLOURS, ["gren"])
    assert refused.value.unknown == "'gren'"


@given(st.floats(0, 5))
def test_targets_are_read_from_numbers_and_from_text(target: float) -> None:
    assert read(DEGREES, [target, repr(target), f" {target!r} "]) == [target] * 3


@pytest.mark.parametrize("value", ["often", "1_0", "\uff11", "nan", "inf", "0x1", True, "true"])
def test_only_plain_ascii_numbers_are_targets(value: Any) -> None:
    with pytest.raises(LabelError, match="is not a number"):
        read(DEGREES, [value])


@pytest.mark.parametrize("value", ["5.1", "-0.1", 5.1, math.inf, "1e9", 10**400])
def test_targets_outside_the_range_are_refused(value: Any) -> None:
    with pytest.raises(LabelError, match=r"outside the task's range \[0, 5\]"):
        read(DEGREES, [value])


def test_minus_one_is_a_target_if_the_range_contains_it() -> None:
    assert read(Regression(-1, 1), ["-1", -1, "-1.0", "-"]) == [-1.0, -1.0, -1.0, None]


@pytest.mark.parametrize("module", [np, torch])
def test_missing_labels_are_recognized_in_arrays_and_tensors(module: Any) -> None:
    make = np.array if module is np else torch.tensor
    for kind, labels in ((COLOURS, [0, 2]), (DEGREES, [0.0, -1.0])):
        known = kind.is_labelled(make([*labels, kind.missing_label]))
        assert known.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("kind", "outputs", "prediction"),
    [
        (
            COLOURS,
            [0.25, 0.5, 0.25],
            Prediction("green", {"red": 0.25, "green": 0.5, "blue": 0.25}),
        ),
        (DEGREES, [2.5], Prediction(2.5)),
    ],
)
def test_records_give_back_the_outputs(
    kind: TaskKind, outputs: list[float], prediction: Prediction
) -> None:
    assert kind.prediction(outputs) == prediction
    assert kind.outputs(kind.record(outputs)) == outputs
    assert len(kind.csv_columns("task")) == len(kind.csv_cells(outputs))
    assert kind.csv_columns("task")[0] == "task"
    assert kind.csv_cells(outputs)[0] == prediction.value


def test_labels_give_back_what_was_written_to_a_file() -> None:
    assert [COLOURS.label(COLOURS.label_value(index)) for index in range(3)] == [0, 1, 2]
    assert DEGREES.label(DEGREES.label_value(2.5)) == 2.5


def test_k_shot_sampling_divides_a_range_in_the_middle() -> None:
    assert DEGREES.k_shot_classes(np.array([0, 2.4, 2.5, 5])).tolist() == [0, 0, 1, 1]
    assert COLOURS.k_shot_classes(np.array([2, 0])).tolist() == [2, 0]


def test_outputs_are_the_same_only_if_classes_and_their_order_or_ranges_are() -> None:
    assert COLOURS.same_outputs(Classification(["red", "green", "blue"]))
    assert not COLOURS.same_outputs(Classification(["green", "red", "blue"]))
    assert DEGREES.same_outputs(Regression(0, 5))
    assert not DEGREES.same_outputs(Regression(0, 1))
    assert not DEGREES.same_outputs(COLOURS)


def test_a_task_has_the_kind_of_its_labels() -> None:
    assert Task("t", ["a"], classes=["no", "yes"]).kind.same_outputs(Classification(["no", "yes"]))
    assert Task("t", ["a"], range=(0, 5)).kind.same_outputs(DEGREES)


@pytest.mark.parametrize("kind", [COLOURS, DEGREES])
def test_every_metric_of_a_kind_can_be_computed(kind: TaskKind) -> None:
    assert set(kind.default_metrics) <= set(kind.metrics) <= set(METRICS)


def test_the_predicted_label_is_the_most_probable_class_or_the_number_within_the_range() -> None:
    assert COLOURS.predicted_label([0.2, 0.4, 0.4]) == 1
    assert [DEGREES.predicted_label([value]) for value in (-1.0, 2.5, 7.0)] == [0, 2.5, 5]


def test_comparison_cells_stand_under_their_columns() -> None:
    cells = COLOURS.comparison_cells([0.1, 0.7, 0.2], 2)
    assert dict(zip(COLOURS.comparison_columns, cells, strict=True)) == {
        "label": "blue",
        "prediction": "green",
        "probability of prediction": "0.700",
        "probability of label": "0.200",
    }
    cells = DEGREES.comparison_cells([3.5], 4.0)
    assert dict(zip(DEGREES.comparison_columns, cells, strict=True)) == {
        "target": "4",
        "prediction": "3.50",
        "difference": "-0.50",
    }
