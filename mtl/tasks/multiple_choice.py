"""The kind of tasks that choose one of several candidate texts."""

from collections.abc import Sequence

from mtl.tasks.classification import Classification


class MultipleChoice(Classification):
    """One of several candidate texts of each example.

    Args:
        choices: The columns with the candidates, which are the classes.
    """

    name = "multiple choice"
    # mypy infers tuples of fixed length for the base class.
    metrics = ("accuracy",)  # type: ignore[assignment]
    metrics_of_varied_labels = ()  # type: ignore[assignment]
    losses = ("cross_entropy",)  # type: ignore[assignment]

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices)

    @property
    def description(self) -> str:
        """The columns with the candidates."""
        return f"which of the texts {', '.join(self.classes)}"
