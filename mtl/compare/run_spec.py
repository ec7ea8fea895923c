"""One run of a comparison."""

from typing import Any, NamedTuple

Choice = tuple[tuple[str, Any], ...]


class RunSpec(NamedTuple):
    """One run of a comparison.

    Attributes:
        row: Name of its row.
        seed: Its seed.
        task: Its task, or the task held out; None for a run of the suite.
        choice: The option values that it takes from the row's grid.
    """

    row: str
    seed: int
    task: str | None
    choice: Choice = ()

    def __str__(self) -> str:
        values = [f"{option} {value}" for option, value in self.choice]
        return ", ".join(filter(None, [self.row, f"seed {self.seed}", self.task, *values]))
