"""Several text tasks, one pretrained encoder: train, test and compare multi-task fine-tuning methods."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mtl.trained import Trained

__version__ = "0.1.0"


def load(run: "str | Path", device: str | None = None) -> "Trained":
    """What a run has trained, to be asked about texts.

    Args:
        run: A run's folder, whose best checkpoint is taken, a checkpoint file, or a directory of `mtl export --format mtl`.
        device: Where it computes, such as `cpu` or `cuda:1`; a GPU where there is one, where absent.

    Returns:
        An object with the run's `tasks`, its `metrics`, and `predict(texts, task=...)`.

    Raises:
        DataError: If there is no such run, or its checkpoint or its backbone cannot be used.
    """
    from mtl.trained import Trained  # here, so that `mtl --version` needs no torch

    return Trained(run, device)
