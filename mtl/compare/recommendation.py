"""Which row of a table to use, and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mtl.compare.costs import Cost
from mtl.compare.decision import Decision, Verdict, points

# Costs that differ by less than this share count as equal.
EQUAL_COSTS = 0.05
FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth"}


class Recommendation(NamedTuple):
    """The row to use.

    Attributes:
        row: The row; None if the runs support no recommendation.
        sentence: Which row to use and why, in one sentence.
    """

    row: str | None
    sentence: str


def recommend(
    baseline: str,
    decisions: Mapping[str, Decision],
    costs: Mapping[str, Cost],
    possibly_best: Sequence[str],
    *,
    no_task_loses: Sequence[str] = (),
) -> Recommendation:
    """Which row to use.

    1. If rows are better than the baseline: of those that are possibly the best row, the cheapest.
    2. Otherwise, if rows are no worse than the baseline and cheaper: the cheapest of them.
    3. Otherwise the baseline: no row is known to be better, or as good and cheaper.
    4. No recommendation if no comparison has a verdict.

    "Cheaper" compares parameters stored, then encoder passes per text, then training time with
    trials; a difference below 5 % counts as none. Of rows with equal parameters and passes, the one
    with the highest score counts as the cheapest.

    Args:
        baseline: The table's baseline.
        decisions: The decision of each row; those against other rows than the baseline are skipped.
        costs: The cost of each row.
        possibly_best: The possibly best rows.
        no_task_loses: The rows of which no task loses more than the margin.
    """
    compared = {
        row: decision
        for row, decision in decisions.items()
        if decision.baseline == baseline and decision.verdict is not None
    }
    if not compared:
        return Recommendation(None, "No recommendation: no row can be compared with the baseline.")
    better = [row for row, one in compared.items() if one.verdict is Verdict.BETTER]
    equal = [
        row
        for row, one in compared.items()
        if one.verdict is Verdict.NO_WORSE and is_cheaper(costs[row], costs[baseline])
    ]
    if not better and not equal:
        return Recommendation(baseline, _keep_sentence(baseline, compared))
    candidates = [row for row in better if row in possibly_best] or better or equal
    candidates.sort(key=lambda row: -compared[row].difference)
    row = cheapest(candidates, costs)
    cost = relative_cost(costs[row], costs[baseline])
    sentence = f"Use {row}: {compared[row].sentence()}" + (f", {cost}" if cost else "")
    if row in no_task_loses:
        sentence += f"; no task loses more than {points(compared[row].margin)}"
    if others := [other for other in candidates if other != row]:
        sentence += f". As far as these runs can tell, as good: {'; '.join(others)}"
    return Recommendation(row, f"{sentence}.")


def _keep_sentence(baseline: str, compared: Mapping[str, Decision]) -> str:
    verdicts = {one.verdict for one in compared.values()}
    if verdicts == {Verdict.WORSE}:
        return f"Use {baseline}: every other row is worse."
    if Verdict.UNDECIDED in verdicts:
        return (
            f"Keep {baseline} for now: no row is known to be better, or as good and cheaper; some "
            "comparisons are undecided."
        )
    return f"Use {baseline}: no row is better, or as good and cheaper."


def _sizes(cost: Cost) -> tuple[float | None, float | None, float | None]:
    return cost.total, cost.passes, cost.time


def is_cheaper(cost: Cost, other: Cost) -> bool:
    """Whether a row costs less than another by the first cost in which they differ."""
    return _is_less(_sizes(cost), _sizes(other))


def _is_less(ours: Sequence[float | None], theirs: Sequence[float | None]) -> bool:
    for our, their in zip(ours, theirs, strict=True):
        if our and their and abs(our / their - 1) >= EQUAL_COSTS:
            return our < their
    return False


def cheapest(rows: Sequence[str], costs: Mapping[str, Cost]) -> str:
    """The row with the fewest parameters, then encoder passes; of equal rows the first."""
    best = rows[0]
    for row in rows[1:]:
        if _is_less(_sizes(costs[row])[:2], _sizes(costs[best])[:2]):
            best = row
    return best


def relative_cost(cost: Cost, other: Cost) -> str:
    """A row's cost relative to the baseline's, in words; empty if they are equal or not known.

    Such as `at a third of the baseline's parameters and inference cost`.
    """
    time = "training time" if cost.with_tuning is None else "training time with trials"
    names = ("parameters", "inference cost", time)
    by_share: dict[str, list[str]] = {}
    for name, ours, theirs in zip(names, _sizes(cost), _sizes(other), strict=True):
        if ours and theirs and abs(ours / theirs - 1) >= EQUAL_COSTS:
            by_share.setdefault(_share(ours / theirs), []).append(name)
    owners = ("the baseline's", *["its"] * len(by_share))
    phrases = [
        f"{share} {owner} {' and '.join(of)}"
        for (share, of), owner in zip(by_share.items(), owners, strict=False)
    ]
    if not phrases:
        return ""
    *others, last = phrases
    return f"at {', '.join(others)} and {last}" if others else f"at {last}"


def _share(ratio: float) -> str:
    """A ratio in words: `a third of`, `60 % of`, `1.4 times`."""
    if ratio > 1:
        return f"{ratio:.1f} times"
    for number, name in FRACTIONS.items():
        if abs(ratio * number - 1) < EQUAL_COSTS:
            return f"{name} of"
    return f"{100 * ratio:.0f} % of"
