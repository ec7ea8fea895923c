"""Results that are kept with the project, and the README's section and `experiments/results/README.md` made of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.formats import Cell, Grid, markdown
from experiments.report import summary
from experiments.results import MEAN, Results
from mtl.runs import write_whole

KEPT = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
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
            {"title": part.title, "head": part.head, "lines": [[[c.text, c.bold] for c in line] for line in part.lines]}
            | {"notes": part.notes}
            for part in parts
        ],
    }
    path = KEPT / f"{name}.json"
    write_whole(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return path


def whole(kept: dict[str, dict[str, Any]]) -> str:
    """All tables in full, as Markdown.

    Args:
        kept: The files' contents by name.
    """
    texts = [HEAD]
    for name, found in kept.items():
        parts = [
            Grid(part["title"], part["head"], [[Cell(*cell) for cell in line] for line in part["lines"]], part["notes"])
            for part in found["parts"]
        ]
        versions = ", ".join(f"{library} {version}" for library, version in found["versions"].items())
        texts.append(f"## {name}\n\n    {found['command']}\n\n{versions}\n\n{markdown(parts)}")
    return "\n".join(texts)


def section(kept: dict[str, dict[str, Any]]) -> str:
    """A line for each table, as Markdown: its baseline's mean, the best row's, and the difference.

    Args:
        kept: The files' contents by name.
    """
    lines = ["| | baseline | best other row | difference over seeds [95 %] | p | seeds |", "|---|---|---|---:|---:|---:|"]
    for name, found in kept.items():
        means = [cell for cell in found["cells"] if cell["column"] == MEAN and cell["mean"] is not None]
        base = next(cell for cell in means if cell["row"] == found["baseline"])
        best = max((cell for cell in means if cell["against"] == found["baseline"]), key=lambda cell: cell["mean"])
        interval = f" [{best['seeds_low']:+.1f}, {best['seeds_high']:+.1f}]" if best["seeds_low"] is not None else ""
        p = "" if best["seeds_p"] is None else "< 0.001" if best["seeds_p"] < 0.001 else f"{best['seeds_p']:.3f}"
        cells = [f"[{found['question']}](experiments/results/README.md#{name})", f"{base['row']} {base['mean']:.1f}"]
        cells += [f"{best['row']} {best['mean']:.1f}", f"{best['seeds_mean']:+.1f}{interval}", p, str(best["n"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_section(readme: str, text: str) -> str:
    """A README with the text between its two marks."""
    before, rest = readme.split(START)
    return f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def read_kept(folder: Path = KEPT) -> dict[str, dict[str, Any]]:
    """All results kept, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


if __name__ == "__main__":
    found = read_kept()
    write_whole(KEPT / "README.md", whole(found))
    write_whole(README, with_section(README.read_text(encoding="utf-8"), section(found)))
