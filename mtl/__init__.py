"""Several text tasks, one pretrained encoder: train, test and compare multi-task fine-tuning methods."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mtl.inference.predictor import Predictor

from mtl._version import __version__ as __version__


def load(run: "str | Path", device: str | None = None) -> "Predictor":
    """What a run has trained, to be asked about texts.

    Args:
        run: A run's folder, whose best checkpoint is taken, a checkpoint file, or a directory of `mtl export --format mtl`.
        device: Where it computes, such as `cpu` or `cuda:1`; a GPU where there is one, where absent.

    Returns:
        An object with the run's `tasks`, its `metrics`, and `predict(texts, task=...)`.

    Raises:
        UserError: If there is no such run, or its checkpoint or its backbone cannot be used.
    """
    from mtl.inference.predictor import Predictor  # here, so that `mtl --version` needs no torch

    return Predictor(run, device)
