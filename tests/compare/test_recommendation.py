"""Which row is recommended."""

from mtl.compare.costs import Cost
from mtl.compare.decision import Decision, Verdict
from mtl.compare.recommendation import cheapest, is_cheaper, recommend, relative_cost


def cost(total: float, passes: float = 1, seconds: float = 10) -> Cost:
    return Cost(None, None, seconds, None, total, total, passes)


SINGLE = cost(300, 3, 30)
SHARED = cost(100, 1, 20)


def decision(
    verdict: Verdict | None, difference: float = 0.4, baseline: str = "single"
) -> Decision:
    return Decision(
        "row", baseline, verdict, difference, difference - 1, difference + 1, 0.5, 8, 5, 5, 1.0
    )


def test_the_better_row_is_recommended_even_if_it_costs_more() -> None:
    decisions = {
        "large": decision(Verdict.BETTER, 4),
        "small": decision(Verdict.NO_WORSE),
        "other": decision(Verdict.WORSE, -4),
    }
    costs = {"single": SINGLE, "large": cost(600, 3, 30), "small": SHARED, "other": SHARED}
    chosen = recommend("single", decisions, costs, ["large"])
    assert chosen.row == "large"
    assert chosen.sentence == (
        "Use large: better than single by 4.0 [3.0, 5.0], at 2.0 times the baseline's parameters."
    )


def test_of_better_rows_that_may_be_the_best_the_cheapest_is_recommended() -> None:
    decisions = {name: decision(Verdict.BETTER, 4) for name in ("a", "b", "c")}
    costs = {"single": SINGLE, "a": cost(300, 3, 30), "b": SHARED, "c": cost(50)}
    chosen = recommend("single", decisions, costs, ["a", "b"])
    assert chosen.row == "b"
    assert "As far as these runs can tell, as good: a." in chosen.sentence


def test_of_equally_cheap_better_rows_the_highest_is_recommended() -> None:
    decisions = {"a": decision(Verdict.BETTER, 4), "b": decision(Verdict.BETTER, 6)}
    costs = {"single": SINGLE, "a": cost(100, 1, 10), "b": cost(101, 1, 20)}
    assert recommend("single", decisions, costs, ["a", "b"]).row == "b"


def test_a_cheaper_row_that_is_no_worse_is_recommended() -> None:
    decisions = {"joint": decision(Verdict.NO_WORSE), "large": decision(Verdict.UNDECIDED)}
    costs = {"single": SINGLE, "joint": SHARED, "large": SHARED}
    chosen = recommend("single", decisions, costs, ["single", "joint"], no_task_loses=["joint"])
    assert chosen.row == "joint"
    assert chosen.sentence == (
        "Use joint: no worse than single within 1 point: +0.4 [-0.6, 1.4], at a third of the "
        "baseline's parameters and inference cost and 67 % of its training time; no task loses "
        "more than 1 point."
    )


def test_a_row_that_is_no_worse_but_not_cheaper_does_not_replace_the_baseline() -> None:
    decisions = {"large": decision(Verdict.NO_WORSE)}
    costs = {"single": SINGLE, "large": cost(400, 3, 30)}
    chosen = recommend("single", decisions, costs, ["single", "large"])
    assert chosen.row == "single"
    assert chosen.sentence == "Use single: no row is better, or as good and cheaper."


def test_undecided_rows_keep_the_baseline_for_now() -> None:
    costs = {"single": SINGLE, "a": SHARED, "b": SHARED}
    decisions = {"a": decision(Verdict.UNDECIDED), "b": decision(Verdict.WORSE, -4)}
    assert recommend("single", decisions, costs, ["single"]).sentence.startswith(
        "Keep single for now"
    )
    worse = recommend("single", {"b": decision(Verdict.WORSE, -4)}, costs, ["single"])
    assert worse.sentence == "Use single: every other row is worse."


def test_without_a_verdict_against_the_baseline_nothing_is_recommended() -> None:
    decisions = {"a": decision(None), "b": decision(Verdict.BETTER, 4, baseline="other")}
    chosen = recommend("single", decisions, {}, ["a", "b"])
    assert chosen.row is None
    assert chosen.sentence.startswith("No recommendation")


def test_costs_are_compared_in_order_and_small_differences_do_not_count() -> None:
    assert is_cheaper(cost(100), cost(106))
    assert not is_cheaper(cost(100), cost(104))
    assert is_cheaper(cost(104, 1), cost(100, 2))
    assert not is_cheaper(cost(200, 1), cost(100, 2))
    assert not is_cheaper(Cost(*6 * [None]), cost(100))
    assert cheapest(["a", "b", "c"], {"a": cost(100), "b": cost(50), "c": cost(50)}) == "b"


def test_costs_are_put_into_words() -> None:
    assert relative_cost(cost(100, 1, 10), cost(100, 1, 10)) == ""
    assert relative_cost(cost(100, 1, 10), cost(200, 3, 10)) == (
        "at half of the baseline's parameters and a third of its inference cost"
    )
    assert relative_cost(cost(140, 1, 5), cost(100, 1, 20)) == (
        "at 1.4 times the baseline's parameters and a quarter of its training time"
    )


def test_trials_are_part_of_the_training_time() -> None:
    tuned, baseline = cost(100, 1, 10)._replace(tuning=30.0), cost(100, 1, 20)._replace(tuning=0.0)
    assert (tuned.with_tuning, baseline.with_tuning, cost(1).with_tuning) == (40, 20, None)
    assert relative_cost(tuned, baseline) == (
        "at 2.0 times the baseline's training time with trials"
    )
    assert is_cheaper(baseline, tuned) and not is_cheaper(tuned, baseline)
