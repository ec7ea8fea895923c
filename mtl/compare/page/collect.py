"""What the page of a comparison shows, collected from its results."""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from mtl.compare import notes
from mtl.compare.decision import ALPHA, Decision
from mtl.compare.definition import MEAN
from mtl.compare.page.curves import learning_curves
from mtl.compare.page.data import (
    CellScore,
    CrossedMap,
    Difference,
    Download,
    PageData,
    PageRow,
    Pair,
    Problem,
)
from mtl.compare.rendering import Report
from mtl.compare.results import Results, TaskDifference
from mtl.compare.run_spec import RunSpec
from mtl.compare.verdict import margin_note

COST_NAMES = {
    "with_tuning": "training time with trials (s)",
    "seconds": "training time per seed (s)",
    "total": "parameters stored",
    "passes": "encoder passes per text",
    "trained": "trained parameters",
}
# The files of a report that a page holds, and their contents.
FILES = {
    "scores.csv": ("text/csv", "the score of every row, seed and task"),
    "table.csv": ("text/csv", "means, differences and verdicts"),
    "table.tex": ("text/x-tex", "the tables for LaTeX"),
    "table.md": ("text/markdown", "the report as Markdown"),
    "comparison.yaml": ("application/yaml", "the definition, to edit and run again"),
    "changes.png": ("image/png", "differences, as a picture"),
    "curves.png": ("image/png", "learning curves, as a picture"),
    "shares.png": ("image/png", "share of each task among the examples drawn"),
    "map.png": ("image/png", "the map of crossed rows, as a picture"),
}


def page_data(results: Results, report: Report, out: Path, command: str) -> PageData:
    """What the page shows.

    Args:
        results: The results.
        report: The report, with the verdict.
        out: The folder of the report, whose other files are written already.
        command: The command that makes the comparison.
    """
    table = results.plan.experiment
    return PageData(
        question=report.question,
        name=out.name,
        verdict=report.verdict,
        warnings=report.warnings,
        baseline=table.baseline,
        score_name=score_name(results),
        margin=table.margin,
        seeds=list(results.plan.seeds),
        columns={column: results.test_examples(column) for column in results.columns},
        rows=[_row(results, row) for row in results.rows],
        pairs=_pairs(results),
        cost_names=COST_NAMES,
        curves=learning_curves(results),
        problems=[*_failed(results), *_not_run(results)],
        notes=_notes(results),
        downloads=_downloads(out),
        command=command,
        shipping=report.shipping,
        crossed=_crossed(results),
    )


def score_name(results: Results) -> str:
    """The name of the column of the mean, or of the suite's own score."""
    return "score" if results.plan.experiment.suite_score else MEAN


def _row(results: Results, row: str) -> PageRow:
    variant, values = results.plan.experiment.rows[row], results.plan.size.values
    names = {column: column for column in results.columns} | {MEAN: score_name(results)}
    decision = results.decisions.get(row)
    reference = results.reference(row)
    return PageRow(
        row,
        notes.row_note(row, variant, values).removeprefix(f"{row}: "),
        {name: _score(results, row, column) for column, name in names.items()},
        _difference(decision) if decision and not math.isnan(decision.difference) else None,
        {
            column: _task_difference(found, reference)
            for column in results.main_columns
            if (found := results.task_decisions.get((row, column)))
        },
        {key: getattr(results.cost(row), key) for key in COST_NAMES},
    )


def _score(results: Results, row: str, column: str) -> CellScore:
    scores = {
        seed: score
        for seed in results.seeds(row)
        if (score := results.score(row, seed, column)) is not None
    }
    published = results.plan.experiment.published
    figures = published.rows.get(row, {}) if published else {}
    values = list(scores.values())
    return CellScore(
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
        scores,
        len(values),
        "" if values else results.missing_reason(row),
        str(figures.get(column, "")),
    )


def _difference(decision: Decision) -> Difference:
    verdict = decision.verdict.value if decision.verdict else ""
    low, high = map(_known, (decision.low, decision.high))
    sentence = decision.sentence()
    return Difference(decision.baseline, decision.difference, low, high, verdict, sentence)


def _task_difference(found: TaskDifference, reference: str) -> Difference:
    """An exploratory difference: better or worse if its corrected p-value says so."""
    significant = found.p < ALPHA
    verdict = "undecided" if not significant else "better" if found.difference > 0 else "worse"
    tested = f"p = {found.p:.3f} (Holm)" if found.p >= 0.001 else "p < 0.001 (Holm)"
    sentence = f"exploratory: {'the scores do not vary' if math.isnan(found.p) else tested}"
    low, high = map(_known, (found.low, found.high))
    return Difference(reference, found.difference, low, high, verdict, sentence)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _pairs(results: Results) -> list[Pair]:
    index = {row: number for number, row in enumerate(results.rows)}
    return [
        Pair(
            index[row],
            index[other],
            found.difference,
            _known(found.low),
            _known(found.high),
            found.verdict.value if found.verdict else "",
        )
        for (row, other), found in results.pairwise().items()
        if not math.isnan(found.difference)
    ]


def _failed(results: Results) -> Iterator[Problem]:
    """The failed runs; those of a row with the same message are one problem."""
    groups: dict[tuple[str, str], list[RunSpec]] = {}
    for run in results.failed:
        groups.setdefault((run.row, results.failure_message(run)), []).append(run)
    for (row, message), runs in groups.items():
        names = [str(run).removeprefix(f"{row}, ") for run in runs]
        logs = [why for run in runs if (why := results.failed[run]).endswith(".log")]
        yield Problem(f"{row}, {'; '.join(names)}", "failed", message, "\n".join(logs))


def _not_run(results: Results) -> Iterator[Problem]:
    """The runs of each row that neither finished nor failed. Of a grid one run is enough."""
    known = {(run.row, run.seed, run.task) for run in (*results.folders, *results.failed)}
    for row in results.rows:
        missing: dict[int, list[str]] = {}
        for run in results.plan.runs(row):
            if (run.row, run.seed, run.task) not in known:
                known.add((run.row, run.seed, run.task))
                missing.setdefault(run.seed, []).extend([run.task] if run.task else [])
        if missing:
            runs = [
                f"seed {seed}" + (f" ({', '.join(tasks)})" if tasks else "")
                for seed, tasks in missing.items()
            ]
            yield Problem(row, "not run", "; ".join(runs))


def _notes(results: Results) -> list[str]:
    failures = set(results.failures())
    published = results.plan.experiment.published
    source = f"published: {published.source}" if published else ""
    verified = "" if not published or published.verified else ", not verified"
    return [
        notes.size_note(results),
        f"budget of every row: {results.plan.experiment.budget}",
        margin_note(results),
        *[note for note in notes.provenance(results) if note not in failures],
        *notes.trials_note(results),
        *([f"{source}{verified}"] if source else []),
    ]


def _downloads(out: Path) -> list[Download]:
    return [
        Download(name, about, media_type, (out / name).read_bytes())
        for name, (media_type, about) in FILES.items()
        if (out / name).is_file()
    ]


def _crossed(results: Results) -> CrossedMap | None:
    crossed = results.plan.experiment.crossed
    if not crossed:
        return None
    (first, across), (second, down) = ((name, list(parts)) for name, parts in crossed.items())
    index = {row: number for number, row in enumerate(results.rows)}
    rows = [[index.get(f"{one}, {other}") for one in across] for other in down]
    return CrossedMap((first, second), across, down, rows)
