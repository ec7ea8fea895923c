import pytest
import torch

from mtl.callbacks.worst_examples import worst_examples
from mtl.data.sources import Split
from mtl.errors import UserError
from mtl.predictions import Predictions
from mtl.tasks import Source, Task


def make_split(*texts: str) -> Split:
    return Split("data.csv", "0", lambda: iter([{"text": text} for text in texts]), {})


def make_predictions() -> Predictions:
    """Predictions for three examples, of which the last has no label."""
    source = Source(path=".")
    task = Task(name="near", texts=["text"], label="label", range=(0.0, 5.0), source=source)
    return Predictions(
        task,
        torch.arange(3),
        torch.tensor([1.0, 4.0, torch.nan]),
        torch.tensor([[1.5], [2.0], [3.0]]),
        torch.tensor([0.25, 4.0, torch.nan]),
    )


def test_values_are_listed_with_their_difference_from_the_target() -> None:
    table = worst_examples(make_predictions(), make_split("one", "two", "three"))
    lines = table.markdown().splitlines()
    assert lines[0] == "2 of 3 examples of data.csv, highest loss first"
    assert lines[2] == "| row | text | target | prediction | difference | loss |"
    assert lines[4:] == [
        "| 1 | two | 4 | 2.00 | -2.00 | 4.000 |",
        "| 0 | one | 1 | 1.50 | +0.50 | 0.250 |",
    ]


def test_a_source_that_has_lost_rows_is_reported() -> None:
    with pytest.raises(UserError, match="fewer rows than when the run began"):
        worst_examples(make_predictions(), make_split("one"))
