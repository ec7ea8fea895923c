"""Stored results of tables: `experiments/results/*.json`, and everything generated from them.

`python -m experiments.snapshots` (`make results`) writes from the JSON files: a CSV file with every
single score of each table, `experiments/results/README.md`, the picture of the verdicts, the
section of the README, the guide and the verdicts in `docs/which-method.md`, and pages with an index
in `experiments/results/html/`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.guide import guide_table, verdict_table
from experiments.results_page import decided_text, results_page
from experiments.snapshot_facts import Snapshot, single_scores
from experiments.snapshot_pages import write_pages
from experiments.telling import telling_findings, telling_table
from experiments.verdict_picture import verdict_picture
from mtl.compare.csv_export import summary
from mtl.compare.definition import MEAN
from mtl.compare.formatting import without_folders
from mtl.compare.notes import backbone, versions
from mtl.compare.pretraining import pretraining_note, pretraining_warning
from mtl.compare.rendering import Report
from mtl.compare.results import Results
from mtl.compare.score_lines import lines_csv, mean_scores, run_records
from mtl.training.run_folder import write_atomic

ROOT = Path(__file__).parents[1]
SNAPSHOTS = Path(__file__).parent / "results"
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "which-method.md"
PICTURE = "verdicts.svg"


def save_snapshot(results: Results, report: Report, name: str, command: str) -> Path:
    """Writes a table's results to `experiments/results/`: the JSON file, and the CSV file.

    Args:
        results: The results.
        report: The report.
        name: The file's name without suffix.
        command: The command that computed the results.
    """
    encoder = backbone(results.plan)
    # Pages derive this warning, so that all of them have its current words.
    derived = pretraining_warning(encoder, results.tasks)
    snapshot = {
        "command": command,
        "question": report.question,
        "baseline": results.plan.experiment.baseline,
        "margin": results.plan.experiment.margin,
        "backbone": without_folders([encoder])[0],
        "size": results.plan.size.about,
        "seeds": list(results.plan.seeds),
        "versions": versions(results),
        "verdict": report.verdict,
        "warnings": [warning for warning in report.warnings if warning != derived],
        "scores": {
            row: {column: results.scores(row, column) for column in (*results.columns, MEAN)}
            for row in results.rows
        },
        "means": mean_scores(results),
        "runs": run_records(results),
        "cells": summary(results),
        "grids": [
            {
                "title": grid.title,
                "head": grid.head,
                "lines": [
                    [[cell.text, cell.bold, cell.dim] for cell in line] for line in grid.lines
                ],
                "notes": grid.notes,
            }
            for grid in report.grids
        ],
    }
    path = SNAPSHOTS / f"{name}.json"
    write_atomic(path, json.dumps(snapshot, indent=1, ensure_ascii=False) + "\n")
    write_atomic(path.with_suffix(".csv"), lines_csv(single_scores(name, snapshot)))
    return path


def read_snapshots(folder: Path | None = None) -> dict[str, Snapshot]:
    """All snapshots by name.

    Args:
        folder: Their folder. Default: `experiments/results/`.
    """
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder or SNAPSHOTS).glob("*.json"))
    }


def generated_files(snapshots: Mapping[str, Snapshot]) -> Iterator[tuple[Path, str]]:
    """The files that are made from the snapshots, except the HTML pages: path and contents.

    Args:
        snapshots: The snapshots by name.
    """
    for name, snapshot in snapshots.items():
        if lines := list(single_scores(name, snapshot)):  # the oldest have means only
            yield SNAPSHOTS / f"{name}.csv", lines_csv(lines)
    yield SNAPSHOTS / "README.md", results_page(snapshots)
    yield SNAPSHOTS / PICTURE, verdict_picture(telling_findings(snapshots), snapshots)
    note = f"† {pretraining_note()}."
    folder = SNAPSHOTS.relative_to(ROOT).as_posix()
    shown = [
        decided_text(snapshots),
        telling_table(snapshots, f"{folder}/README.md"),
        f"![Differences from the baseline, with intervals]({folder}/{PICTURE})",
        note,
    ]
    readme = README.read_text(encoding="utf-8")
    yield README, replace_section(readme, "results", "\n\n".join(shown))
    text = GUIDE.read_text(encoding="utf-8")
    text = replace_section(text, "guide", guide_table(snapshots, "results.md"))
    shown = [decided_text(snapshots), verdict_table(snapshots, "results.md"), note]
    yield GUIDE, replace_section(text, "verdicts", "\n\n".join(shown))


def replace_section(text: str, name: str, section: str) -> str:
    """A page with a new section between its two markers.

    Args:
        text: The page.
        name: The name of the section in the markers.
        section: The new section.
    """
    start, end = f"<!-- {name}: written by `make results` -->", f"<!-- end of {name} -->"
    before, rest = text.split(start)
    return f"{before}{start}\n\n{section}\n\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    stored = read_snapshots()
    for path, contents in generated_files(stored):
        write_atomic(path, contents)
    write_pages(stored, SNAPSHOTS / "html")
