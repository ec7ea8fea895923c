"""Token labels: how tags and spans are read, and which entities they stand for."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from

from mtl.errors import UserError
from mtl.tasks import LabelError, Task, TokenLabels
from mtl.tasks.tags import EntityFinder, entity_counts, from_iob1, tag_names
from mtl.tasks.token_metrics import TOKEN_METRICS, example_counts

TYPES = ["person", "place"]


def make_task(**fields: Any) -> Task:
    return Task.read({"name": "names", "tokens": "words", "classes": TYPES, **fields})


def make_kind(**fields: Any) -> TokenLabels:
    kind = make_task(**fields).kind
    assert isinstance(kind, TokenLabels)
    return kind


def sequential_entities(tags: list[str]) -> list[tuple[int, int, str]]:
    """The rules of the CoNLL scorer, one tag after the other."""
    entities, start, before = [], 0, ("O", "")
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        ends = before[0] != "O" and (
            prefix in "BSO" or before[0] in "ES" or (prefix != "O" and before[1] != name)
        )
        if ends:
            entities.append((start, index, before[1]))
        if prefix != "O" and (ends or before[0] == "O"):
            start = index
        before = prefix, name
    return entities


@pytest.mark.parametrize("scheme", ["IOB2", "IOBES"])
@given(data=lists(lists(integers(0, 8), min_size=1, max_size=12), min_size=1, max_size=6))
def test_entities_are_found_in_every_sequence_of_tags(scheme: Any, data: list[list[int]]) -> None:
    names = tag_names(TYPES, scheme)
    finder = EntityFinder(names)
    tags = make_task(tags=scheme).kind.label_array(
        [[tag % len(names) for tag in row] for row in data]
    )
    found = finder(tags)
    for index, row in enumerate(data):
        mine = [
            (start, stop, finder.types[type_])
            for sequence, start, stop, type_ in zip(*(v.tolist() for v in found), strict=True)
            if sequence == index
        ]
        assert mine == sequential_entities([names[tag % len(names)] for tag in row])


@pytest.mark.parametrize("scheme", ["IOB2", "IOBES"])
def test_scores_of_random_sequences_equal_those_of_seqeval(scheme: Any) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    draw, kind = random.Random(0), make_kind(tags=scheme)
    names = kind.output_names
    rows: list[list[list[int]]] = [[], []]
    for _ in range(1000):
        length = draw.randint(1, 20)
        gold = [draw.randrange(len(names)) for _ in range(length)]  # mostly broken sequences
        guess = [tag if draw.random() < 0.7 else draw.randrange(len(names)) for tag in gold]
        rows[0].append(gold)
        rows[1].append(guess)
    labels, guesses = kind.label_array(rows[0]), kind.label_array(rows[1])
    outputs = np.eye(len(names))[guesses]
    counts = example_counts(kind, outputs, labels).sum(0)
    named = [[[names[tag] for tag in row] for row in each] for each in rows]
    for metric in ("f1", "precision", "recall"):
        expected = getattr(seqeval, f"{metric}_score")(*named)
        assert TOKEN_METRICS[f"entity_{metric}"](counts) == pytest.approx(expected, abs=1e-12)
    expected = seqeval.accuracy_score(*named)
    assert TOKEN_METRICS["token_accuracy"](counts) == pytest.approx(expected, abs=1e-12)
    report = seqeval.classification_report(*named, output_dict=True)
    counts = entity_counts(kind.finder, guesses, labels).sum(0)
    for name, (_, _, labelled) in zip(kind.finder.types, counts, strict=True):
        assert labelled == report[name]["support"]


@given(lists(sampled_from(["O", *(f"I-{name}" for name in TYPES)]), min_size=1, max_size=12))
def test_iob1_and_iob2_stand_for_the_same_entities(tags: list[str]) -> None:
    converted = from_iob1(tags)
    assert sequential_entities(converted) == sequential_entities(tags)
    for start, _, _ in sequential_entities(converted):
        assert converted[start].startswith("B-")


def test_words_and_tags_are_lists_or_separated_by_white_space() -> None:
    kind = make_task().kind
    read = kind.label_reader({})
    assert kind.output_names == ("O", "B-person", "I-person", "B-place", "I-place")
    assert read((["Ann", "Lee", "left", "Rome"], ["B-person", "I-person", "O", "B-place"])) == [
        1,
        2,
        0,
        3,
    ]
    assert read(("Ann left", "B-person O")) == [1, 0]
    assert read((["Ann"], None)) is None


def test_spans_become_tags_of_words() -> None:
    read = make_task(tags="spans").kind.label_reader({"PER": "person"})
    text = "Ann Lee, of Rome."
    label = [{"start": 12, "end": 16, "label": "place"}, [0, 7, "PER"]]
    assert read((text, label)) == [1, 2, 0, 0, 3, 0]
    assert read((text, [])) == [0] * 6


@pytest.mark.parametrize(
    ("tags", "value", "message"),
    [
        ("IOB2", (["a", "b"], ["O"]), "1 tags for 2 words"),
        ("IOB2", (["a"], ["B-persn"]), "Did you mean 'B-person'"),
        ("IOB2", (["a"], ["S-person"]), "does not fit the classes and the tag scheme IOB2"),
        ("IOB2", (["a"], [3]), "is not a list of tags"),
        ("IOB1", (["a"], ["I-persn"]), "tag 'I-persn' does not fit"),
        ("spans", ("Ann left", [[0, 3, "persn"]]), "span label 'persn' is not one of the classes"),
        ("spans", ("Ann left", 3), "label 3 is not a list of spans"),
        ("spans", ("Ann left", [[0, 2, "person"]]), "does not begin and end with a word"),
        ("spans", ("Ann left", [[0, 3, "person"], [0, 8, "place"]]), "overlaps another span"),
        ("spans", ("Ann left", [[0, 30, "person"]]), "0 <= start < end <= 8"),
    ],
)
def test_wrong_labels_are_refused_with_the_value(tags: Any, value: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        make_task(tags=tags).kind.label_reader({})(value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"texts": ["text"]}, "omit texts"),
        ({"classes": []}, "give either classes"),
        ({"metrics": ["f1"]}, "do not fit a token label task"),
        ({"tags": "plain", "metrics": ["entity_f1"]}, "do not fit a token label task"),
        ({"tags": "IOBES", "label_all_subtokens": True}, "IOBES has no tag"),
        (
            {"tokens": None, "texts": ["words"], "classes": ["a", "b"], "tags": "IOB1"},
            "tags is for",
        ),
        ({"window_overlap": 8, "truncation": "left"}, "omit truncation"),
    ],
)
def test_contradicting_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task(**fields)
