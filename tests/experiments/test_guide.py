"""The guide and the most telling verdicts follow from the verdicts of the tables."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import pytest

from experiments.guide import GUIDE, Line, conclusion, evidence, guide_table
from experiments.snapshot_facts import Finding, Snapshot
from experiments.snapshots import read_snapshots
from experiments.telling import most_telling, telling_findings
from experiments.verdict_picture import verdict_picture
from mtl.compare.definition import Experiment

LINE = Line("tasks", "sharing", "separate models", {"one": ("shared",), "two": ()})


def finding(verdict: str, preliminary: bool = False) -> Finding:
    low, high = {"better": (1, 3), "no worse": (-0.5, 1), "worse": (-3, -1)}.get(verdict, (-2, 2))
    return Finding(
        "one-small", "shared", "single", verdict, (low + high) / 2, low, high, preliminary
    )


def snapshot(row: str, verdict: str, seeds: int = 5) -> Snapshot:
    """A stored table with a baseline and one row."""
    one = finding(verdict, seeds < 5)
    numbers: dict[str, Any] = {"difference": one.difference, "low": one.low, "high": one.high}
    cell = {"row": row, "column": "mean", "against": "single", "verdict": verdict}
    return {
        "question": "Is it better?",
        "verdict": [f"Use {row}: better." if verdict == "better" else "Keep single for now."],
        "seeds": list(range(seeds)),
        "size": "MiniLM; quick.",
        "backbone": "bundled",
        "cells": [cell | numbers | {"preliminary": seeds < 5}],
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "undecided so far"),
        ([finding("undecided"), finding("")], "undecided so far"),
        ([finding("better"), finding("undecided")], "sharing"),
        ([finding("better"), finding("no worse")], "sharing"),
        ([finding("worse")], "separate models"),
        ([finding("no worse")], "either: sharing is no worse than separate models"),
        (
            [finding("better"), finding("worse")],
            "it depends: compare sharing with separate models",
        ),
        ([finding("better", preliminary=True)], "sharing (preliminary)"),
        ([finding("better", preliminary=True), finding("worse")], "separate models"),
    ],
)
def test_the_conclusion_follows_from_the_verdicts(found: Sequence[Finding], expected: str) -> None:
    assert conclusion(LINE, found) == expected


def test_a_line_rests_on_the_largest_size_and_names_tables_of_which_nothing_is_kept() -> None:
    stored = {"one-mini": snapshot("shared", "worse", 3), "one-small": snapshot("shared", "better")}
    found, missing = evidence(LINE, stored)
    assert [(one.name, one.verdict) for one in found] == [("one-small", "better")]
    assert missing == ["two"]


def test_the_rows_of_the_guide_exist_in_their_tables() -> None:
    for line in GUIDE:
        for table, rows in line.rows.items():
            assert set(rows) <= set(Experiment.read(table).rows), table


def test_a_line_without_a_decided_table_says_so() -> None:
    text = guide_table({}, "results.md")
    assert text.count("| undecided so far |") == len(GUIDE)
    assert "`atis`: not kept" in text


def test_the_most_telling_verdicts_are_gains_first_and_one_per_table() -> None:
    verdicts = ["undecided", "worse", "better", "no worse", *["undecided"] * 6]
    stored = {f"t{index}-small": snapshot("shared", each) for index, each in enumerate(verdicts)}
    stored["early-mini"] = snapshot("shared", "better", 3)
    shown = most_telling(stored)
    assert [one.verdict for one in shown] == [
        *["better", "better", "no worse", "worse"],
        *["undecided", "undecided"],  # as many as make six
    ]
    assert not shown[0].preliminary and shown[1].preliminary


def test_the_picture_has_a_line_for_every_table() -> None:
    stored = read_snapshots()
    found = telling_findings(stored)
    picture = ET.fromstring(verdict_picture(found, stored))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}circle")) == len(found)
    texts = [text.text for text in picture.iter(f"{space}text")]
    assert all(f"{one.row} - {one.against}" in texts and one.numbers in texts for one in found)
