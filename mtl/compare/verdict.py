"""The verdict of a table in sentences that can be acted on, and what limits it."""

from collections.abc import Iterator

from mtl.compare.decision import FEW_SEEDS, Decision, Verdict, points
from mtl.compare.notes import backbone, tuning_note
from mtl.compare.pretraining import pretraining_warning
from mtl.compare.recommendation import Recommendation, recommend
from mtl.compare.results import Results

# With more rows than this, undecided rows are only counted or named.
MAX_SENTENCES = 12


def recommendation(results: Results) -> Recommendation:
    """Which row of a table to use."""
    baseline = results.plan.experiment.baseline
    return recommend(
        baseline,
        results.decisions,
        {row: results.cost(row) for row in {*results.rows, baseline}},
        results.possibly_best,
        no_task_loses=[row for row in results.compared_rows if results.no_task_loses(row)],
    )


def verdict_lines(results: Results) -> list[str]:
    """The verdict: which row to use and why, each row's decision, how rows were tuned."""
    chosen = recommendation(results)
    lines = [chosen.sentence]
    decided = {row: one for row, one in results.decisions.items() if row != chosen.row}
    lines += _sentences(decided)
    if len(best := results.possibly_best) > 1:
        lines.append(f"Possibly the best row, with 95 % confidence: {'; '.join(best)}.")
    lines.append(tuning_note(results))
    return lines


def _sentences(decisions: dict[str, Decision]) -> Iterator[str]:
    """A sentence per row, decided rows first; many undecided rows are only named or counted."""
    order = [Verdict.BETTER, Verdict.NO_WORSE, Verdict.WORSE, Verdict.UNDECIDED, None]
    rows = sorted(decisions, key=lambda row: order.index(decisions[row].verdict))
    shown = [
        row
        for row in rows
        if len(rows) <= MAX_SENTENCES
        or decisions[row].verdict in (Verdict.BETTER, Verdict.WORSE, Verdict.NO_WORSE)
    ]
    for row in shown:
        yield f"{row}: {decisions[row].sentence()}."
    for verdict in (Verdict.UNDECIDED, None):
        names = [row for row in rows if row not in shown and decisions[row].verdict is verdict]
        if names:
            listed = f": {'; '.join(names)}" if len(names) <= MAX_SENTENCES else ""
            yield f"{verdict or 'no verdict'}: {len(names)} rows{listed}."


def warnings(results: Results) -> list[str]:
    """What limits the verdict."""
    return [
        *_few_seeds(results),
        *_undertrained(results),
        *_at_the_edge(results),
        *_seen_before(results),
    ]


def _few_seeds(results: Results) -> Iterator[str]:
    seeds = len(results.plan.seeds)
    if 1 < seeds < FEW_SEEDS:
        yield (
            f"{seeds} seeds: every verdict is preliminary; {FEW_SEEDS} or more make the interval "
            "reliable"
        )
    elif seeds == 1:
        yield (
            "one seed: the noise of training is not known, so nothing can be decided; run at "
            f"least {FEW_SEEDS}"
        )


def _undertrained(results: Results) -> Iterator[str]:
    """Whether most runs of the baseline have their best validation score at the very end."""
    baseline = results.plan.experiment.baseline
    runs = [
        record
        for run, record in results.records.items()
        if run.row == baseline and record.get("epochs", 0) > 1 and record.get("validation")
    ]
    rising = [run for run in runs if run["validation"]["step"] == run["last"]["step"]]
    if runs and 2 * len(rising) > len(runs):
        yield (
            f"{baseline} is undertrained: the validation score of {len(rising)} of its "
            f"{len(runs)} runs still rises at the last epoch; train longer before you compare"
        )


def _at_the_edge(results: Results) -> Iterator[str]:
    """Options for which a search has chosen the smallest or the largest value that it tried."""
    plan, found = results.plan, dict[str, list[str]]()
    for (row, task), choice in plan.tuned.items():
        for option, value in choice:
            tried = plan.search_space(row).get(option)
            if not isinstance(tried, list) or len(set(tried)) < 2:
                continue
            if isinstance(value, float) and value in (min(tried), max(tried)):
                side = "smallest" if value == min(tried) else "largest"
                what = f"{option} {value:g} is the {side} value tried"
                found.setdefault(what, []).append(f"{row}, {task}" if task else row)
    for what, rows in found.items():
        yield f"{what} ({'; '.join(rows)}): a value beyond it may be better; extend the search"


def _seen_before(results: Results) -> Iterator[str]:
    """Tasks whose data the encoder was trained on."""
    if warning := pretraining_warning(backbone(results.plan), results.tasks):
        yield warning


def margin_note(results: Results) -> str:
    """How the table's verdicts are decided, in one sentence."""
    table = results.plan.experiment
    looks = f", looks at {', '.join(map(str, table.looks))} seeds" if table.looks else ""
    paired = "paired by seed" if table.paired else "unpaired"
    return (
        "difference: points of the mean over tasks, with an interval that covers the noise of "
        f"seeds and of test examples, {paired}, 95 % for all rows together{looks}; verdict: "
        "better above 0, worse below 0, no worse above "
        f"-{points(table.margin)}, else undecided (docs/decision.md)"
    )
