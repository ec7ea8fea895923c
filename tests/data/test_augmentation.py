from itertools import pairwise
from pathlib import Path

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
def test_copies_follow_their_rows_with_their_labels(seed: int, count: int, share: float) -> None:
    found = list(Augmentation(swap=share).added(pairs(count), seed))
    assert [row for row in found if row.number >= 0] == pairs(count)
    for before, row in pairwise(found):
        if row.number < 0:
            assert row == Example(-1 - before.number, before.texts[::-1], before.label)
    assert found == list(Augmentation(swap=share).added(pairs(count), seed))


def test_about_the_share_is_swapped() -> None:
    assert sum(row.number < 0 for row in Augmentation(swap=1.0).added(pairs(100), 0)) == 100
    assert 340 < sum(row.number < 0 for row in Augmentation(swap=0.4).added(pairs(1000), 0)) < 460


def test_three_words_become_synonyms(tmp_path: Path) -> None:
    words = tmp_path / "words.tsv"
    words.write_text("good\tfine\nfilm\tmovie\nbad\tpoor\nslow\tsluggish\ngood\tnice\n")
    text = "A good film , bad but slow"
    (row, copy) = Augmentation(synonyms=str(words), share=1.0).added([Example(4, (text,), 1)], 0)
    assert row.texts == (text,)
    assert copy.number == -5
    changed = [(a, b) for a, b in zip(text.split(), copy.texts[0].split(), strict=True) if a != b]
    assert len(changed) == 3
    assert set(changed) <= {
        ("good", "fine"),
        ("film", "movie"),
        ("bad", "poor"),
        ("slow", "sluggish"),
    }


def test_a_text_without_a_known_word_has_no_copy(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("good\tfine\n")
    augmentation = Augmentation(synonyms=str(tmp_path / "words.tsv"), share=1.0)
    assert len(list(augmentation.added([Example(0, ("nothing here",), 0)], 0))) == 1


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("good\tfine\nbad\n")
    with pytest.raises(
        UserError, match="words.tsv, line 2: 'bad' is not a word, a tab and its synonym"
    ):
        list(Augmentation(synonyms=str(tmp_path / "words.tsv")).added(pairs(1), 0))


def module(tasks: list[Task], backbone: str, **args: object) -> RoundRobinDataModule:
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=16, **args)  # type: ignore[arg-type]
    data.setup("fit")
    return data


def test_training_rows_grow_and_evaluated_ones_do_not(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    plain = module(tasks, backbone)
    more = module(tasks, backbone, augment={"same": {"swap": 1.0}})
    assert more.sizes == plain.sizes | {"same": 2 * plain.sizes["same"]}
    assert [len(table) for table in more.eval_tables] == [len(table) for table in plain.eval_tables]
    assert all((table.numbers >= 0).all() for table in more.eval_tables)


def test_rows_set_aside_have_no_copy_in_training(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    from dataclasses import replace

    alike = [
        replace(task, splits=replace(task.splits, test=task.splits.validation)) for task in tasks
    ]
    data = module(alike, backbone, augment={"same": {"swap": 1.0}}, holdout=0.25, max_examples=20)
    aside, trained = data.eval_tables[1].numbers, data.train_tables[1].numbers
    assert len(trained) == 40
    assert not set(aside) & {number if number >= 0 else -1 - number for number in trained.tolist()}
    assert np.array_equal(np.sort(-1 - trained[trained < 0]), np.sort(trained[trained >= 0]))


def test_what_does_not_fit_is_refused(tasks: list[Task], backbone: str) -> None:
    with pytest.raises(
        UserError, match="augment: 'sam' is none of the tasks .* Did you mean 'same'"
    ):
        RoundRobinDataModule(
            tasks=tasks, backbone=backbone, augment={"sam": Augmentation(swap=1.0)}
        )
    with pytest.raises(
        UserError, match="mood: swap exchanges the two texts of a pair, and 'mood' has one"
    ):
        RoundRobinDataModule(
            tasks=tasks, backbone=backbone, augment={"mood": Augmentation(swap=1.0)}
        )
