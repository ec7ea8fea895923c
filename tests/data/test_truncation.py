"""What is cut from examples that are too long."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from

from mtl.data.checks import Example, checked_examples
from mtl.data.encoding import Encoding, Plain, Prompted, check_lengths
from mtl.data.sources import open_split
from mtl.data.truncation import kept_positions
from mtl.errors import UserError
from mtl.modules.backbone import load_tokenizer
from mtl.tasks import Task
from tests.conftest import WORDS

texts = lists(sampled_from(WORDS), min_size=1, max_size=20).map(" ".join)


def read(count: int = 1, **fields: Any) -> Task:
    names = ["first", "second"][:count]
    return Task.read({"name": "t", "texts": names, "classes": ["no", "yes"], **fields})


@pytest.mark.parametrize("side", ["right", "left"])
@given(pairs=lists(lists(texts, min_size=2, max_size=2), min_size=1, max_size=4), n=integers(8, 30))
def test_both_sides_are_cut_as_the_tokenizer_cuts_them(
    backbone: str, side: Any, pairs: list[list[str]], n: int
) -> None:
    tokenizer = load_tokenizer(backbone)
    for count in (1, 2):
        columns = [list(column) for column in zip(*pairs, strict=True)][:count]
        tokenizer.truncation_side = "right"
        whole = tokenizer(*columns, truncation=False)
        tokenizer.truncation_side = side
        cut = tokenizer(*columns, truncation="longest_first", max_length=n)
        tokenizer.truncation_side = "right"
        for item, ids, expected in zip(
            whole.encodings, whole["input_ids"], cut["input_ids"], strict=True
        ):
            kept = kept_positions(item.sequence_ids, n, side)
            assert [ids[position] for position in kept] == expected


@given(length=integers(1, 40), n=integers(2, 30))
def test_head_and_tail_keep_a_quarter_of_the_tokens_from_the_start(length: int, n: int) -> None:
    kept = kept_positions([None, *[0] * length, None], n, "head_tail")
    texts = kept[1:-1]
    assert kept[0] == 0
    assert kept[-1] == length + 1
    assert len(kept) == min(n, length + 2)
    if length > n - 2:
        head = round((n - 2) * 128 / 510)
        assert texts == [*range(1, 1 + head), *range(length + 1 - (n - 2 - head), length + 1)]


def test_a_task_has_its_own_maximum_length_and_truncation(backbone: str) -> None:
    tokenizer, long = load_tokenizer(backbone), " ".join(WORDS)
    examples = [Example(0, (long,), 1), Example(1, ("a cat",), 0)]
    for truncation, words in (("right", WORDS[:6]), ("left", WORDS[-6:])):
        task = read(max_length=8, truncation=truncation)
        fields, truncated = Plain()(tokenizer, task, examples, 128)
        assert tokenizer.convert_ids_to_tokens(fields["input_ids"][0])[1:-1] == words
        assert len(fields["input_ids"][1]) == len(fields["token_type_ids"][1]) == 4
        assert truncated == 1
    assert Plain().length_limit(read(), 128) == 128
    assert len({Plain().key(read(truncation=each)) for each in ("right", "left", "head_tail")}) == 3


def test_a_maximum_length_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match="max_length 0: give 1 or more"):
        read(max_length=0)


def test_a_wrong_truncation_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="head_tail"):
        read(truncation="middle")


def test_the_marked_part_of_a_text_is_between_asterisks(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("first,label,from,to\nthe red cat,yes,4,7\na dog,no,2,9\n")
    task = read(source={"path": str(tmp_path), "marks": {"first": ["from", "to"]}})
    examples = checked_examples(task, open_split(task, "train"), Counter())
    assert next(examples).texts == ("the *red* cat",)
    with pytest.raises(UserError, match=r"row 2.*\['2', '9'\], which is no part of .*5 characters"):
        list(examples)
    with pytest.raises(UserError, match="source.marks: unknown text column 'frist'"):
        read(source={"path": ".", "marks": {"frist": ["from", "to"]}})


PROMPT = {"template": "{first} It was {mask}.", "words": {"no": "bad", "yes": "good"}}
TASKS_OF_EVERY_KIND = [
    pytest.param(Plain(), read(), id="text"),
    pytest.param(Plain(), read(2), id="pair"),
    pytest.param(Plain(), read(2, truncation="head_tail"), id="middle cut"),
    pytest.param(Plain(), read(classes=[], choices=["a", "b"]), id="choices"),
    pytest.param(Plain(), read(texts=[], tokens="first", tags="plain"), id="words"),
    pytest.param(Prompted(), read(prompt=PROMPT), id="prompt"),
]


@pytest.mark.parametrize(("encoding", "task"), TASKS_OF_EVERY_KIND)
def test_the_shortest_length_keeps_a_token_of_each_text_and_less_is_refused(
    masked_backbone: str, encoding: Encoding, task: Task
) -> None:
    tokenizer = load_tokenizer(masked_backbone)
    shortest = encoding.shortest_length(tokenizer, task)
    check_lengths(encoding, tokenizer, [task], shortest)
    texts = tuple(" ".join([word] * 9) for word in WORDS[: len(task.text_columns)])
    fields, _ = encoding(tokenizer, task, [Example(0, texts, 0)], shortest)
    tokens = tokenizer.convert_ids_to_tokens(fields["input_ids"][0])
    assert set(WORDS[: len(texts)]) <= set(tokens)
    for length in (1, shortest - 1):
        message = f"--data.max_length {length}: leaves no room .* give {shortest} or more"
        with pytest.raises(UserError, match=message):
            check_lengths(encoding, tokenizer, [task], length)


def test_the_field_that_is_too_short_is_named(masked_backbone: str) -> None:
    tokenizer = load_tokenizer(masked_backbone)
    own = read(max_length=2)
    with pytest.raises(UserError, match=r"^task 't': max_length 2: .* give 3 or more"):
        check_lengths(Plain(), tokenizer, [own], 128)
    prompted = read(prompt=PROMPT | {"max_length": 4})
    with pytest.raises(UserError, match=r"^task 't': prompt.max_length 4: "):
        check_lengths(Prompted(), tokenizer, [prompted], 128)
