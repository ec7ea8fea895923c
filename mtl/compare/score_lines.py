"""Every single score of a comparison: a line per row, seed, task, split and metric."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mtl.compare.definition import MEAN
from mtl.compare.formatting import format_versions
from mtl.compare.results import Results
from mtl.metric_functions import is_error

# The metric of a task's score, the mean of its metrics.
SCORE = "score"
# The scores that a table is made of; validation scores select the checkpoint.
SPLITS = ("validation", "test")


class ScoreLine(NamedTuple):
    """A line of the file.

    Attributes:
        table: Name of the table.
        size: Its size.
        row: The row.
        task: The task, or `mean`.
        metric: The metric, `score` (the task's), or `mean`: what the verdicts compare.
        split: `validation` (at the checkpoint that is tested) or `test`; of a task with several
            also its name, such as `test/validation_matched`.
        seed: The seed.
        score: In hundredths; of an error, such as `mae`, in its own unit.
        examples: Number of examples of the split.
        options: Option values that a search or a grid chose, as JSON.
        seconds: Training time of the run; a run of several tasks has a line for each.
        code: Fingerprint of the package's source.
        versions: Versions of the libraries.
        folder: The run's folder; empty in results that are kept.
    """

    table: str
    size: str
    row: str
    task: str
    metric: str
    split: str
    seed: int | None
    score: float
    examples: int | None = None
    options: str = ""
    seconds: float | None = None
    code: str = ""
    versions: str = ""
    folder: str = ""


def run_records(results: Results) -> list[dict[str, Any]]:
    """What is kept of each run: how it was made, and its scores.

    Args:
        results: The results.
    """
    return [
        {
            "row": run.row,
            "seed": run.seed,
            "options": dict(run.choice),
            "seconds": record.get("seconds"),
            "code": record.get("code", ""),
            "versions": record.get("versions", {}),
            "scores": {split: _split_scores(record.get(split, {})) for split in SPLITS},
        }
        for run, record in results.records.items()
        if run.row in results.rows
    ]


def _split_scores(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "examples": task.get("examples"),
            "metrics": {
                metric: value if is_error(metric) else 100 * value
                for metric, value in task["metrics"].items()
            }
            | {SCORE: 100 * task["score"]},
        }
        for name, task in found.get("tasks", {}).items()
    }


def mean_scores(results: Results) -> dict[str, dict[str, float]]:
    """For each row and seed (as text) what the verdicts compare."""
    return {
        row: {
            str(seed): score
            for seed in results.seeds(row)
            if (score := results.score(row, seed, MEAN)) is not None
        }
        for row in results.rows
    }


def score_lines(
    table: str,
    size: str,
    records: Sequence[Mapping[str, Any]],
    means: Mapping[str, Mapping[str, float]],
    folders: Sequence[str] = (),
) -> Iterator[ScoreLine]:
    """The lines of a table.

    Args:
        table: Its name.
        size: Its size.
        records: Its runs, by `run_records`.
        means: Its means, by `mean_scores`.
        folders: The folder of each run. Default: none.
    """
    for index, record in enumerate(records):
        for kind, tasks in record["scores"].items():
            for name, found in tasks.items():
                task, _, part = name.partition("/")
                for metric, score in found["metrics"].items():
                    yield ScoreLine(
                        table,
                        size,
                        record["row"],
                        task,
                        metric,
                        f"{kind}/{part}" if part else kind,
                        record["seed"],
                        score,
                        found["examples"],
                        json.dumps(record["options"]) if record["options"] else "",
                        record["seconds"],
                        record["code"],
                        format_versions(record["versions"]),
                        folders[index] if folders else "",
                    )
    for row, by_seed in means.items():
        for seed, score in by_seed.items():
            yield ScoreLine(table, size, row, MEAN, MEAN, "test", int(seed), score)


def lines_csv(lines: Iterable[ScoreLine], folders: bool = False) -> str:
    """The lines as CSV.

    Args:
        lines: The lines.
        folders: Whether to write the folders of the runs.
    """
    out = io.StringIO()
    names = ScoreLine._fields if folders else ScoreLine._fields[:-1]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        rounded = line._replace(score=round(line.score, 6))
        writer.writerow(["" if value is None else value for value in rounded[: len(names)]])
    return out.getvalue()


def scores_csv(results: Results, table: str) -> str:
    """Every single score of a comparison as CSV, with the folders of its runs.

    Args:
        results: The results.
        table: The name of the table.
    """
    folders = [str(results.folders[run]) for run in results.records if run.row in results.rows]
    lines = score_lines(
        table, results.plan.size_name, run_records(results), mean_scores(results), folders
    )
    return lines_csv(lines, folders=True)
