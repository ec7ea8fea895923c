"""The most telling verdicts of the stored results, for the README: one per table, gains first."""

import math
from collections.abc import Mapping

from experiments.snapshot_facts import (
    Finding,
    Snapshot,
    findings,
    question_link,
    size_text,
    table_and_size,
)

# Verdicts in the order in which they are shown; a table without one comes last.
ORDER = ("better", "no worse", "worse", "undecided", "")
MOST, FEWEST = 8, 6
# Sizes, the most telling one first; others come after these.
SIZES = ("paper", "small", "mini")
WORDS = {
    "better": "**{row}** is better than {against}",
    "no worse": "**{row}** is no worse than {against}",
    "worse": "**{row}** is worse than {against}",
    "undecided": "{row} against {against}: undecided",
}


def telling_findings(snapshots: Mapping[str, Snapshot]) -> list[Finding]:
    """Of each table the verdict that says most, gains first.

    Of a table with several sizes only the most telling size counts.

    Args:
        snapshots: The snapshots by name.
    """
    found = [
        telling
        for name in current_names(snapshots)
        if (telling := _of_table(name, snapshots[name])) is not None
    ]
    return sorted(found, key=_rank)


def current_names(snapshots: Mapping[str, Snapshot]) -> list[str]:
    """The snapshots without those of a smaller size of the same table."""
    by_table: dict[str, list[str]] = {}
    for name in snapshots:
        by_table.setdefault(table_and_size(name)[0], []).append(name)
    return [min(names, key=_size_rank) for names in by_table.values()]


def _size_rank(name: str) -> int:
    size = table_and_size(name)[1]
    return SIZES.index(size) if size in SIZES else len(SIZES)


def _of_table(name: str, snapshot: Snapshot) -> Finding | None:
    """The verdict about the recommended row; else the clearest one of the table."""
    found = [one for one in findings(name, snapshot) if one.verdict]
    recommended = [
        one
        for one in found
        if one.verdict in ("better", "no worse")
        and snapshot["verdict"][0].startswith(f"Use {one.row}: ")
    ]
    return min(recommended or found, key=_rank, default=None)


def _rank(finding: Finding) -> tuple[int, bool, float]:
    """Gains first; then what five seeds decided; then large differences, narrow intervals."""
    width = finding.high - finding.low
    clear = width if finding.verdict in ("undecided", "no worse") else -abs(finding.difference)
    return ORDER.index(finding.verdict), finding.preliminary, clear


def most_telling(snapshots: Mapping[str, Snapshot]) -> list[Finding]:
    """Six to eight verdicts, if there are as many: decided ones, those of five seeds first.

    Args:
        snapshots: The snapshots by name.
    """
    found = telling_findings(snapshots)
    by_weight = sorted(
        found, key=lambda one: (one.verdict == "undecided", one.preliminary, _rank(one))
    )
    decided = [one for one in by_weight if one.verdict != "undecided"][:MOST]
    chosen = by_weight[: max(len(decided), FEWEST)]
    return [one for one in found if one in chosen]


def telling_table(snapshots: Mapping[str, Snapshot], link: str) -> str:
    """The most telling verdicts as Markdown.

    Args:
        snapshots: The snapshots by name.
        link: The page that the questions link to.
    """
    lines = ["| question | finding | points [95 %] | seeds | size |", "|---|---|---|---:|---|"]
    for one in most_telling(snapshots):
        snapshot = snapshots[one.name]
        words = WORDS[one.verdict].format(row=one.row, against=one.against)
        cells = [
            question_link(one.name, snapshot, link),
            words + (" (preliminary)" if one.preliminary else ""),
            one.numbers if not math.isnan(one.low) else "",
            str(len(snapshot["seeds"])),
            size_text(snapshot),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
