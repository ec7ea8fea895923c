"""Results that are kept with the project, and the README's section and `experiments/results/README.md` made of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.rendering import Cell, Grid, markdown
from experiments.report import summary
from experiments.results import Results
from experiments.statistics import holm
from experiments.table import MEAN
from mtl.training.run_folder import write_atomic

KEPT = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
# Rows of a table above which the README names the ends alone.
MANY = 8
START, END = "<!-- results: written by `make results` -->", "<!-- end of results -->"
HEAD = """\
# What our own runs found

Written by `make results` from the JSON files beside it, which `make table-NAME ARGS=--keep` writes. Small encoders on two CPU
cores: they say how the methods compare there, not what the papers' sizes would give. Scores are in hundredths. What tables do
not hold (ensembles, correlations of scores) is in [studies.md](studies.md).
"""


def keep_results(results: Results, parts: Sequence[Grid], name: str, command: str) -> Path:
    """Writes a table's results as a file of `experiments/results/`.

    Args:
        results: What was found.
        parts: The report's parts.
        name: The file's name.
        command: The command that made them.
    """
    kept = {
        "command": command,
        "question": results.plan.table.question,
        "baseline": results.plan.table.baseline,
        "size": results.plan.size.about,
        "seeds": list(results.plan.seeds),
        "versions": results.versions(),
        "cells": summary(results),
        "parts": [
            {
                "title": part.title,
                "head": part.head,
                "lines": [[[c.text, c.bold] for c in line] for line in part.lines],
            }
            | {"notes": part.notes}
            for part in parts
        ],
    }
    path = KEPT / f"{name}.json"
    write_atomic(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return path


def whole(kept: dict[str, dict[str, Any]]) -> str:
    """All tables in full, as Markdown.

    Args:
        kept: The files' contents by name.
    """
    texts = [HEAD]
    for name, found in kept.items():
        parts = [
            Grid(
                part["title"],
                part["head"],
                [[Cell(*cell) for cell in line] for line in part["lines"]],
                part["notes"],
            )
            for part in found["parts"]
        ]
        versions = ", ".join(
            f"{library} {version}" for library, version in found["versions"].items()
        )
        texts.append(f"## {name}\n\n    {found['command']}\n\n{versions}\n\n{markdown(parts)}")
    return "\n".join(texts)


def section(kept: dict[str, dict[str, Any]]) -> str:
    """A line for each table, as Markdown: the means of its rows, and which are better than the baseline beyond noise.

    A p-value is that of the mean over seeds, corrected over the row's columns, and here over the rows too (Holm).

    Args:
        kept: The files' contents by name.
    """
    lines = [
        "| question | baseline | other rows | better beyond noise | seeds |",
        "|---|---|---|---|---:|",
    ]
    for name, found in kept.items():
        means = [
            cell for cell in found["cells"] if cell["column"] == MEAN and cell["mean"] is not None
        ]
        base = next((cell for cell in means if cell["row"] == found["baseline"]), None)
        others = sorted(
            (cell for cell in means if cell is not base), key=lambda cell: float(cell["mean"])
        )
        compared = [
            cell
            for cell in others
            if cell["against"] == found["baseline"] and cell["seeds_p"] is not None
        ]
        p_values = holm([cell["seeds_p"] for cell in compared])
        better = [
            cell["row"]
            for cell, p in zip(compared, p_values, strict=True)
            if p < 0.05 and cell["seeds_mean"] > 0
        ]
        shown = [f"{cell['row']} {cell['mean']:.1f}" for cell in others]
        shown = (
            [*shown[:2], f"{len(shown) - 4} between", *shown[-2:]] if len(shown) > MANY else shown
        )
        cells = [f"[{found['question']}](experiments/results/README.md#{name})"]
        cells += [
            f"{base['row']} {base['mean']:.1f}" if base else "",
            "; ".join(shown),
            "; ".join(better) or "none",
        ]
        lines.append(f"| {' | '.join([*cells, str(len(found['seeds']))])} |")
    return "\n".join(lines)


def with_section(readme: str, text: str) -> str:
    """A README with the text between its two marks."""
    before, rest = readme.split(START)
    return f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def read_kept(folder: Path = KEPT) -> dict[str, dict[str, Any]]:
    """All results kept, by name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


if __name__ == "__main__":
    found = read_kept()
    write_atomic(KEPT / "README.md", whole(found))
    write_atomic(README, with_section(README.read_text(encoding="utf-8"), section(found)))
