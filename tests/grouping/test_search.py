import math
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl.grouping.gains import agreement, gains_of_affinity, groups_of, mean_gains
from mtl.grouping.search import best_groups

NAMES = "abcd"


@st.composite
def problems(draw: Any) -> tuple[str, dict[frozenset[str], dict[str, float]], int]:
    tasks = NAMES[: draw(st.integers(1, 4))]
    values = st.floats(-3, 3)
    gains = {group: {task: draw(values) for task in group} for group in groups_of(tasks)}
    return tasks, gains, draw(st.integers(1, 4))


@given(problems())
def test_no_set_of_groups_within_the_budget_gains_more(
    problem: tuple[str, dict[frozenset[str], dict[str, float]], int],
) -> None:
    tasks, gains, encoders = problem
    best = max(
        sum(max(gains[group][task] for group in chosen if task in group) for task in tasks)
        for count in range(1, encoders + 1)
        for chosen in combinations(gains, count)
        if frozenset().union(*chosen) == frozenset(tasks)
    )
    found = best_groups(tasks, gains, encoders)
    assert len(found) <= encoders
    assert sorted(task for group in found for task in group.answered) == list(tasks)
    assert all(set(group.answered) <= set(group.trained) for group in found)
    total = sum(gains[frozenset(each.trained)][task] for each in found for task in each.answered)
    assert total == pytest.approx(best)


def test_a_task_may_help_a_group_and_be_answered_by_another() -> None:
    gains = {group: dict.fromkeys(group, 0.0) for group in groups_of("abc")}
    gains[frozenset("ac")] = {"a": 1.0, "c": -1.0}
    a, others = best_groups("abc", gains, 2)
    assert (a.trained, a.answered) == (("a", "c"), ("a",))
    assert others.answered == ("b", "c") and others.trained == ("b", "c")


def test_equal_gains_take_the_fewest_encoders() -> None:
    gains = {group: dict.fromkeys(group, 0.5) for group in groups_of("abc")}
    assert [group.trained for group in best_groups("abc", gains, 3)] == [("a", "b", "c")]


def test_gains_of_affinity_are_means_over_the_others_and_zero_alone() -> None:
    affinity = {(one, other): ord(one) - 2.0 * ord(other) for one in "abc" for other in "abc"}
    gains = gains_of_affinity(affinity, groups_of("abc"))
    assert gains[frozenset("b")] == {"b": 0.0}
    assert gains[frozenset("ab")]["b"] == affinity["a", "b"]
    assert gains[frozenset("abc")]["b"] == (affinity["a", "b"] + affinity["c", "b"]) / 2
    twice = mean_gains([gains, {group: dict.fromkeys(group, 0.0) for group in gains}])
    assert twice[frozenset("ab")]["a"] == gains[frozenset("ab")]["a"] / 2


def test_groups_can_be_limited_in_size() -> None:
    sizes = [len(group) for group in groups_of("abcd", 2)]
    assert sizes == [1] * 4 + [2] * 6


def test_agreement_is_a_rank_correlation_over_tasks_and_groups_of_several() -> None:
    a, ab, ac = frozenset("a"), frozenset("ab"), frozenset("ac")
    measured = {a: {"a": 9.0}, ab: {"a": 1.0, "b": 2.0}, ac: {"a": 3.0, "c": 4.0}}
    estimated = {a: {"a": 0.0}, ab: {"a": 10.0, "b": 30.0}, ac: {"a": 20.0, "c": 40.0}}
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15).
    found = agreement(measured, estimated)
    assert found.correlation == pytest.approx(0.8) and found.pairs == 4
    few = {ab: measured[ab]}
    assert math.isnan(agreement(few, few).correlation) and agreement(few, few).pairs == 2
