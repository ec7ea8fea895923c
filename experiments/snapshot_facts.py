"""What a stored result says, read from its JSON: encoder, warnings, decided rows, single scores."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mtl.compare.decision import FEW_SEEDS
from mtl.compare.definition import MEAN
from mtl.compare.formatting import format_versions, interval
from mtl.compare.pretraining import pretraining_warning
from mtl.compare.score_lines import SCORE, ScoreLine, score_lines

# The contents of a snapshot's file.
Snapshot = dict[str, Any]

VERDICTS = ("better", "no worse", "worse", "undecided")


class Finding(NamedTuple):
    """The verdict about one row of a stored table.

    Attributes:
        name: Name of the snapshot.
        row: The row.
        against: The row that it is compared with.
        verdict: The verdict; empty if the rows cannot be compared.
        difference: The difference in points.
        low: Lower end of its interval.
        high: Upper end.
        preliminary: Whether it rests on fewer than five seeds.
    """

    name: str
    row: str
    against: str
    verdict: str
    difference: float
    low: float
    high: float
    preliminary: bool

    @property
    def numbers(self) -> str:
        """The difference with its interval."""
        return interval(self.difference, self.low, self.high)


def findings(name: str, snapshot: Snapshot) -> list[Finding]:
    """The verdicts of a table, in the order of its rows.

    Args:
        name: Name of the snapshot.
        snapshot: The snapshot.
    """
    return [
        Finding(
            name,
            cell["row"],
            cell["against"],
            cell["verdict"] or "",
            cell["difference"],
            cell["low"] if cell["low"] is not None else float("nan"),
            cell["high"] if cell["high"] is not None else float("nan"),
            bool(cell["preliminary"]),
        )
        for cell in snapshot["cells"]
        if cell["column"] == MEAN and cell["difference"] is not None
    ]


def table_and_size(name: str) -> tuple[str, str]:
    """The table and the size that a snapshot's name consists of."""
    table, _, size = name.rpartition("-")
    return table, size


def encoder(snapshot: Snapshot) -> str:
    """The pretrained encoder; of older snapshots from the note about the size."""
    if "backbone" in snapshot:
        return str(snapshot["backbone"])
    notes = [note for grid in snapshot["grids"] for note in grid["notes"]]
    named = [found[1] for note in notes if (found := re.search(r" Backbone ([^;]+);", note))]
    return named[0] if named else ""


def all_warnings(snapshot: Snapshot) -> list[str]:
    """The warnings, with that about what the encoder was trained on before.

    That one is not stored, so that all pages have its current words.
    """
    seen = _seen_before(snapshot)
    return [*snapshot["warnings"], *([seen] if seen else [])]


def _seen_before(snapshot: Snapshot) -> str:
    columns = [cell["column"] for cell in snapshot["cells"] if cell["column"] != MEAN]
    tasks = dict.fromkeys(column.partition(".")[0] for column in columns)
    return pretraining_warning(encoder(snapshot), tasks)


def question_link(name: str, snapshot: Snapshot, page: str) -> str:
    """The question as a link to the table in full; marked if the encoder has seen its data.

    Args:
        name: Name of the snapshot.
        snapshot: The snapshot.
        page: The page with the tables; empty: the same page.
    """
    mark = " †" if _seen_before(snapshot) else ""
    return f"[{snapshot['question']}]({page}#{name}){mark}"


def size_text(snapshot: Snapshot) -> str:
    """The first words about the size: encoder and data."""
    about: str = snapshot["size"]
    return re.split(r"[.;](?: |$)", about)[0]


def seeds_text(snapshot: Snapshot) -> str:
    """The number of seeds, and whether that makes verdicts preliminary."""
    seeds = len(snapshot["seeds"])
    return f"{seeds} (preliminary)" if 1 < seeds < FEW_SEEDS else str(seeds)


def single_scores(name: str, snapshot: Snapshot) -> Iterator[ScoreLine]:
    """Every single score of a table.

    Older snapshots have only the test scores of the table's columns.

    Args:
        name: Name of the snapshot.
        snapshot: The snapshot.
    """
    table, size = table_and_size(name)
    if "runs" in snapshot:
        yield from score_lines(table, size, snapshot["runs"], snapshot["means"])
        return
    text = " ".join(note for grid in snapshot["grids"] for note in grid["notes"])
    code = found[1] if (found := re.search(r"; code (\w+);", text)) else ""
    examples = {
        cell["column"]: cell["test_examples"]
        for cell in snapshot["cells"]
        if cell["column"] != MEAN
    }
    for row, by_column in snapshot["scores"].items():
        for column, scores in by_column.items():
            task, _, metric = column.partition(".")
            # A row with a seed of its own has one score, and its seed was not stored.
            complete = len(scores) == len(snapshot["seeds"])
            for seed, score in zip(
                snapshot["seeds"] if complete else [None] * len(scores), scores, strict=True
            ):
                yield ScoreLine(
                    table,
                    size,
                    row,
                    task,
                    MEAN if column == MEAN else metric or SCORE,
                    "test",
                    seed,
                    score,
                    examples.get(column),
                    code=code,
                    versions=format_versions(snapshot["versions"]),
                )
