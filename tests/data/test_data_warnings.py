"""Warnings about examples, in `mtl fit`, `mtl test` and `mtl doctor`."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.data import KShotDataModule, RoundRobinDataModule
from mtl.data.data_warnings import (
    task_data_warnings,
    without_data_warnings,
    without_encoding,
)
from mtl.data.split_examples import Report, UnencodedSplit, text_hash
from mtl.data.split_warnings import NamedSplit, split_warnings
from mtl.data.splits import LISTED_CLASSES, class_counts
from mtl.errors import UserError
from mtl.tasks import Task

Rows = Sequence[tuple[str, str]]
GOOD = [(f"good {word}", "yes") for word in "abcdefgh"] + [
    (f"bad {word}", "no") for word in "abcdefgh"
]
OTHER = [("cat a", "yes"), ("cat b", "no")]

MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(in_tmp: Path) -> MakeTask:
    def make(
        train: Rows = GOOD, validation: Rows = OTHER, test: Rows = OTHER, **fields: object
    ) -> Task:
        (in_tmp / "kettles").mkdir(exist_ok=True)
        for split, rows in (("train", train), ("validation", validation), ("test", test)):
            with (in_tmp / "kettles" / f"{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *rows])
        return Task.read(
            {
                "name": "kettles",
                "texts": ["text"],
                "classes": ["no", "yes"],
                "metrics": ["accuracy", "matthews"],
                "source": {"path": str(in_tmp / "kettles")},
            }
            | fields
        )

    return make


def warnings(
    task: Task,
    backbone: str,
    caplog: pytest.LogCaptureFixture,
    stage: str = "fit",
    **options: Any,
) -> list[str]:
    scheme: Any = KShotDataModule if "k" in options else RoundRobinDataModule
    with caplog.at_level("WARNING", "lightning.pytorch"):
        scheme(tasks=[task], backbone=backbone, **options).setup(stage)
    prefix = "Warning: task 'kettles', "
    return [
        record.getMessage().removeprefix(prefix).replace(f"{task.source.path}/", "")
        for record in caplog.records
        if record.getMessage().startswith(prefix)
    ]


def test_examples_in_several_splits_are_counted(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    # White space around a text does not make it another text.
    task = make_task(
        validation=[*OTHER, (" good a ", "yes")], test=[*OTHER, GOOD[1], ("bad b", "yes")]
    )
    of_validation = (
        "validation (validation.csv): 1 of 3 examples is also a training example, such as row 3 "
        "(row 1 of train)"
    )
    of_test = (
        "test (test.csv): 2 of 4 examples are also training examples (1 with another label), such "
        "as row 3 (row 2 of train)"
    )
    assert warnings(task, backbone, caplog) == [of_validation, of_test]
    caplog.clear()
    assert warnings(task, backbone, caplog, "test") == [of_test]
    caplog.clear()
    assert warnings(task, backbone, caplog, "validate") == []
    with without_data_warnings():
        assert warnings(task, backbone, caplog) == []


def test_classes_without_or_with_few_training_examples(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    classes = ["no", "yes", "rare", "unseen", "unused"]
    test = [*OTHER, ("film", "unseen"), ("food", "unseen")]
    task = make_task([*GOOD, ("film", "rare")], test=test, classes=classes)
    assert warnings(task, backbone, caplog) == [
        "train (train.csv): no training examples of class 'unseen' (2 in test), 'unused'",
        "train (train.csv): fewer than 5 training examples of class 'rare' (1); expect scores "
        "that change with the seed",
        "validation (validation.csv): no examples of class 'rare'; scores do not cover it",
        "test (test.csv): 1 of 4 examples is also a training example (1 with another label), such "
        "as row 3 (row 17 of train)",
        "test (test.csv): no examples of class 'rare'; scores do not cover it",
    ]


@pytest.mark.parametrize("encoded", [True, False])
def test_many_truncated_training_examples(
    make_task: MakeTask, backbone: str, encoded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of 500: of examples that are not encoded yet, a sample is counted."""
    long = [(f"{'good ' * 20} {number}", "yes") for number in range(100)]
    short = [(f"bad {number}", "no") for number in range(400)]
    mixed = [example for five in zip(*[iter(short)] * 4, long, strict=True) for example in five]
    task = make_task(mixed)

    def truncated(**options: Any) -> list[str]:
        if encoded:
            return warnings(task, backbone, caplog, **options)
        data = RoundRobinDataModule(tasks=[task], backbone=backbone, **options)
        found = task_data_warnings(data, without_encoding(data), 0)
        return [line.replace(f"{task.source.path}/", "") for line in found]

    about, option = "" if encoded else "about ", "--data.max_length"
    found = f"train (train.csv): {about}20% of the examples are truncated to 16 tokens ({option})"
    (warning,) = truncated(max_length=16)
    assert warning.startswith(found)
    caplog.clear()
    assert truncated(max_length=64) == []


def test_a_class_with_another_share_of_the_evaluated_examples(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    def rows(word: str, yes: int, no: int) -> Rows:
        labels = ["yes"] * yes + ["no"] * no
        return [(f"{word} {number}", label) for number, label in enumerate(labels)]

    shifted = make_task(rows("a", 50, 10), rows("b", 47, 13), rows("c", 30, 30))
    (warning,) = warnings(shifted, backbone, caplog)
    expected = "test (test.csv): class 'no' is 50% of the labels, but 17% of train: a model that"
    assert warning.startswith(expected)
    caplog.clear()
    few = make_task(rows("a", 50, 10), rows("b", 47, 13), rows("c", 10, 10))
    assert warnings(few, backbone, caplog) == []


def test_a_text_with_two_labels(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task([*GOOD, ("good c", "no"), ("good c", "yes"), ("good d", "yes")])
    (warning,) = warnings(task, backbone, caplog)
    assert warning.startswith(
        "train (train.csv): 1 text occurs with different labels, such as rows"
    )
    caplog.clear()
    task = make_task([*GOOD, ("good c", "no"), ("bad c", "yes")])
    (warning,) = warnings(task, backbone, caplog)
    assert warning.startswith("train (train.csv): 2 texts occur with different labels")


@pytest.mark.parametrize(
    ("fields", "labels", "text"),
    [
        ({}, ("no", "no"), "all 2 labels are 'no', so matthews is undefined"),
        ({"metrics": ["accuracy"]}, ("no", "no"), "no examples of class 'yes'; scores do not"),
        ({"metrics": ["f1", "matthews"]}, ("no", "yes"), None),
        (
            {"range": [0, 5], "classes": [], "metrics": ["pearson", "spearman"]},
            ("2", "2.0"),
            "all 2 labels are 2.0, so pearson and spearman are undefined",
        ),
    ],
)
def test_metrics_that_are_undefined_for_equal_labels(
    make_task: MakeTask,
    backbone: str,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, object],
    labels: tuple[str, str],
    text: str | None,
) -> None:
    train = [(words, str(len(words) % 5)) for words, _ in GOOD] if "range" in fields else GOOD
    split = [("film", labels[0]), ("food", labels[1])]
    other = [("film", "1"), ("food", "2")] if "range" in fields else OTHER
    task = make_task(train, split, other, **fields)
    expected = [f"validation (validation.csv): {text}"] if text else []
    found = warnings(task, backbone, caplog)
    assert len(found) == len(expected)
    assert all(map(str.startswith, found, expected))


def test_the_examples_that_are_trained_on_are_judged(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task(test=[GOOD[0], GOOD[-1]])
    assert len(warnings(task, backbone, caplog)) == 1
    caplog.clear()
    found = warnings(task, backbone, caplog, max_examples=4)
    assert any("fewer than 5" in warning or "no training" in warning for warning in found)
    caplog.clear()
    first = "train (train.csv): fewer than 5 training examples of class 'no' (3), 'yes' (3); "
    assert warnings(task, backbone, caplog, k=3)[0].startswith(first)
    caplog.clear()
    task = make_task([*GOOD, *GOOD], splits={"validation": ["test"], "test": ["test"]})
    found = warnings(task, backbone, caplog, holdout=0.5)
    assert found[0].startswith("holdout of train (train.csv): ") and "of 16 examples" in found[0]


def test_a_holdout_that_is_not_used_is_logged_and_one_without_rest_is_refused(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings(make_task(), backbone, caplog, holdout=0.2) == [
        "--data.holdout 0.2: nothing is held out, because the task selects its checkpoint on "
        "validation, which it does not test"
    ]
    task = make_task(GOOD[:1], splits={"validation": ["test"], "test": ["test"]})
    with pytest.raises(UserError, match="--data.holdout 0.5: .*train.csv has 1 training example, "):
        warnings(task, backbone, caplog, holdout=0.5)


def test_training_does_not_need_the_test_split(
    make_task: MakeTask, backbone: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    Path(str(task.source.path), "test.csv").unlink()
    assert warnings(task, backbone, caplog) == []
    make_task(test=[("cat", "unknown")])
    assert warnings(task, backbone, caplog) == []


EXAMPLES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), min_size=1, max_size=12
)


@given(train=EXAMPLES, test=EXAMPLES)
def test_counts_are_those_of_a_plain_loop(
    train: list[tuple[str, int]], test: list[tuple[str, int]]
) -> None:
    task = Task.read({"name": "t", "texts": ["a"], "classes": ["x", "y", "z"]})

    def split(name: str, examples: list[tuple[str, int]]) -> NamedSplit:
        count = len(examples)
        texts = np.array([text_hash([text]) for text, _ in examples])
        labels = np.array([label for _, label in examples])
        report = Report(f"{name}.csv", "", count, 0, 0, {})
        return NamedSplit(name, UnencodedSplit(report, labels, np.arange(count), texts))

    found = list(split_warnings(task, split("train", train), [split("test", test)], few=3))
    known = {text for text, _ in train}
    shared = sum(text in known for text, _ in test)
    other = sum(text in known and (text, label) not in train for text, label in test)
    expected = f"test (test.csv): {shared} of {len(test)} examples "
    assert any(line.startswith(expected) for line in found) == (shared > 0)
    assert any(f"({other} with another label)" in line for line in found) == (other > 0)
    for name, examples in (("train", train), ("test", test)):
        conflicts = sum(len({label for t, label in examples if t == text}) > 1 for text in "abcdef")
        lines = [line for line in found if f"{name} ({name}.csv): {conflicts} text" in line]
        assert bool(lines) == (conflicts > 0)
    counts = [sum(label == index for _, label in train) for index in range(3)]
    assert any("no training examples of class" in line for line in found) == (0 in counts)
    assert any("fewer than 3" in line for line in found) == (1 in counts or 2 in counts)
    tested = {label for _, label in test}
    absent = [name for index, name in enumerate("xyz") if counts[index] and index not in tested]
    lines = [line for line in found if line.startswith("test (test.csv): no examples of class ")]
    names = ", ".join(map(repr, absent))
    assert len(lines) == bool(absent)
    assert all(f"class {names}; scores" in line for line in lines)


def test_of_many_classes_the_most_frequent_are_counted_by_name() -> None:
    def counted(classes: int) -> str:
        names = [f"c{index}" for index in range(classes)]
        task = Task("t", ["text"], classes=names)
        labels = np.repeat(np.arange(classes), np.arange(classes))  # class i has i examples
        report = Report("t.csv", "", len(labels), 0, 0, {})
        numbers = np.arange(len(labels))
        return class_counts(task, UnencodedSplit(report, labels, numbers, numbers))

    assert counted(3) == "c0 0 | c1 1 | c2 2"
    few = counted(LISTED_CLASSES + 41).split(" | ")
    assert few[0] == f"c{LISTED_CLASSES + 40} {LISTED_CLASSES + 40}"
    assert len(few) == LISTED_CLASSES + 1
    assert few[-1] == "41 other classes 0 to 40"
