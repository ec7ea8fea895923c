"""The comparisons that a run belongs to, and their verdicts."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

from mtl.errors import UserError
from mtl.training.run_folder import row_folder_name

# What `mtl compare` writes to a comparison's folder, `tables/NAME` next to its runs.
TABLES, LINKS, SUMMARY, ROWS = "tables", "runs", "summary.json", "table.csv"


class ComparisonVerdict(NamedTuple):
    """The verdict of a comparison.

    Attributes:
        question: The comparison's question.
        answer: Which row to use, in one sentence.
        row: The row that the run belongs to; None if the comparison has no decision on it.
        decision: The decision on that row; None if there is none, such as for the baseline.
    """

    question: str
    answer: str
    row: str | None
    decision: str | None


def comparison_verdicts(run: Path | None) -> list[ComparisonVerdict]:
    """The verdicts of the comparisons in whose folders a run is linked.

    Args:
        run: The run's folder; None if it is not available.

    Raises:
        UserError: If a comparison's files are damaged.
    """
    if run is None:
        return []
    run, found = run.resolve(), []
    for summary in sorted((run.parent / TABLES).glob(f"*/{SUMMARY}")):
        links = [path for path in (summary.parent / LINKS).rglob("seed-*") if path.is_symlink()]
        link = next((path for path in links if path.resolve() == run), None)
        if link:
            folder = link.relative_to(summary.parent / LINKS).parts[0]
            try:
                found.append(_verdict(summary, folder))
            except (OSError, ValueError, KeyError) as error:
                raise UserError(
                    f"{summary.parent}: the comparison of this run cannot be read ({error!r}); "
                    "write its report again with `mtl compare`, or delete the folder"
                ) from error
    return found


def _verdict(summary: Path, folder: str) -> ComparisonVerdict:
    """Reads a verdict.

    Args:
        summary: The comparison's `summary.json`.
        folder: The row's folder: its name, in which some characters are replaced.
    """
    stored = json.loads(summary.read_text(encoding="utf-8"))
    with (summary.parent / ROWS).open(encoding="utf-8", newline="") as file:
        rows = [record for record in csv.DictReader(file) if record["column"] == "mean"]
    row = next((record for record in rows if row_folder_name(record["row"]) == folder), None)
    return ComparisonVerdict(
        stored["question"],
        stored["answer"],
        row["row"] if row else None,
        (row["sentence"] or None) if row else None,
    )
