from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.data import RoundRobinDataModule
from mtl.data.augmentation import Augmentation
from mtl.data.checks import Example
from mtl.errors import UserError
from mtl.tasks import Task


def pairs(count: int) -> list[Example]:
    return [
        Example(number, (f"one {number}", f"two {number}"), number % 2) for number in range(count)
    ]


@given(st.integers(0, 2**31), st.integers(1, 60), st.floats(0, 1))
def test_copies_follow_their_examples_and_have_their_labels(
    seed: int, count: int, share: float
) -> None:
    augmented = list(Augmentation(swap=share).augmented(pairs(count), seed))
    assert [example for example in augmented if example.number >= 0] == pairs(count)
    for original, copy in pairwise(augmented):
        if copy.number < 0:
            assert copy == Example(-1 - original.number, original.texts[::-1], original.label)
    assert augmented == list(Augmentation(swap=share).augmented(pairs(count), seed))


def test_the_share_of_swapped_pairs_is_about_the_probability() -> None:
    assert (
        sum(example.number < 0 for example in Augmentation(swap=1.0).augmented(pairs(100), 0))
        == 100
    )
    assert (
        340
        < sum(example.number < 0 for example in Augmentation(swap=0.4).augmented(pairs(1000), 0))
        < 460
    )


def test_three_words_are_replaced_by_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("good\tfine\nfilm\tmovie\nbad\tpoor\nslow\tsluggish\ngood\tnice\n")
    text = "A good film , bad but slow"
    (example, copy) = Augmentation(synonyms=str(path), share=1.0).augmented(
        [Example(4, (text,), 1)], 0
    )
    assert example.texts == (text,)
    assert copy.number == -5
    replaced = [(a, b) for a, b in zip(text.split(), copy.texts[0].split(), strict=True) if a != b]
    assert len(replaced) == 3
    assert set(replaced) <= {
        ("good", "fine"),
        ("film", "movie"),
        ("bad", "poor"),
        ("slow", "sluggish"),
    }


def test_a_text_without_replaceable_words_gets_no_copy(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("good\tfine\n")
    augmentation = Augmentation(synonyms=str(tmp_path / "words.tsv"), share=1.0)
    assert len(list(augmentation.augmented([Example(0, ("nothing here",), 0)], 0))) == 1


def test_a_line_that_is_not_a_pair_of_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("good\tfine\nbad\n")
    with pytest.raises(
        UserError, match="words.tsv, line 2: 'bad': write a word, a tab and its synonym"
    ):
        list(Augmentation(synonyms=str(tmp_path / "words.tsv")).augmented(pairs(1), 0))


def module(tasks: list[Task], backbone: str, **args: Any) -> RoundRobinDataModule:
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16, **args)
    data.setup("fit")
    return data


def test_only_training_examples_get_copies(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    plain = module(tasks, backbone)
    augmented = module(tasks, backbone, augment={"same": {"swap": 1.0}})
    assert augmented.sizes == plain.sizes | {"same": 2 * plain.sizes["same"]}
    assert [len(table) for table in augmented.eval_splits] == [
        len(table) for table in plain.eval_splits
    ]
    assert all((table.numbers >= 0).all() for table in augmented.eval_splits)


def test_held_out_examples_have_no_copy_in_the_training_set(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    from dataclasses import replace

    without_test = [
        replace(task, splits=replace(task.splits, test=task.splits.validation)) for task in tasks
    ]
    data = module(
        without_test, backbone, augment={"same": {"swap": 1.0}}, holdout=0.25, max_examples=20
    )
    held_out, trained = data.eval_splits[1].numbers, data.train_splits[1].numbers
    assert len(trained) == 40
    assert not set(held_out) & {
        number if number >= 0 else -1 - number for number in trained.tolist()
    }
    assert np.array_equal(np.sort(-1 - trained[trained < 0]), np.sort(trained[trained >= 0]))


def test_an_augmentation_that_does_not_fit_the_tasks_is_refused(
    tasks: list[Task], backbone: str
) -> None:
    with pytest.raises(UserError, match="augment: unknown task 'sam'. .* Did you mean 'same'"):
        RoundRobinDataModule(
            tasks=tasks, backbone=backbone, augment={"sam": Augmentation(swap=1.0)}
        )
    with pytest.raises(UserError, match="mood: swap needs pairs of texts, and 'mood' has one"):
        RoundRobinDataModule(
            tasks=tasks, backbone=backbone, augment={"mood": Augmentation(swap=1.0)}
        )
