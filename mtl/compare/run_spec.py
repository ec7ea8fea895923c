"""One run of a comparison."""

import json
from typing import Any, NamedTuple

Choice = tuple[tuple[str, Any], ...]

# Between the tasks of a group, in `RunSpec.task`; names of tasks do not contain it.
AND = "+"


def split_group(task: str | None) -> list[str]:
    """The tasks of `RunSpec.task`."""
    return task.split(AND) if task else []


def listed_values(values: list[Any]) -> list[Any]:
    """The values of a grid or a search space; mappings and lists as JSON, as options take them.

    >>> listed_values([0.1, "cls", {"c": 0.4}])
    [0.1, 'cls', '{"c": 0.4}']
    """
    return [
        json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        for value in values
    ]


class RunSpec(NamedTuple):
    """One run of a comparison.

    Attributes:
        row: Name of its row.
        seed: Its seed.
        task: Its task, a group of tasks such as `a+b`, or the task held out; None for a run of the
            suite.
        choice: The option values that it takes from the row's grid.
    """

    row: str
    seed: int
    task: str | None
    choice: Choice = ()

    @property
    def tasks(self) -> list[str]:
        """The task, or the tasks of the group; empty for a run of the suite."""
        return split_group(self.task)

    def __str__(self) -> str:
        values = [f"{option} {value}" for option, value in self.choice]
        return ", ".join(filter(None, [self.row, f"seed {self.seed}", self.task, *values]))
