"""Train, evaluate and compare multi-task fine-tuning methods for pretrained text encoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from mtl.cli.python import fit as fit
    from mtl.compare.api import compare as compare
    from mtl.data.saved_task import save_task as save_task
    from mtl.inference.graph import Runtime
    from mtl.inference.predictor import Predictor

from mtl._version import __version__ as __version__

_FUNCTIONS = {"fit": "mtl.cli.python", "save_task": "mtl.data.saved_task"}


def load(run: "str | Path", device: str | None = None, runtime: "Runtime" = "torch") -> "Predictor":
    """Loads the trained model of a run for prediction.

    Args:
        run: A run's folder (its best checkpoint is loaded), a checkpoint file, or a directory
            written by `mtl export --format mtl`.
        device: The device, such as `cpu` or `cuda:1`. Default: a GPU if there is one, else the CPU.
        runtime: What computes: `torch`, or on the CPU a graph of the export: `onnx` or `int8`.

    Returns:
        An object with the run's `tasks`, its `metrics`, and `predict(texts, task=...)`.

    Raises:
        UserError: If there is no such run, or its checkpoint or its backbone cannot be used.
    """
    # Imported here, so that `mtl --version` does not import torch.
    from mtl.inference.predictor import Predictor

    return Predictor(run, device, runtime)


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `mtl --version` does not import torch.
    if name == "compare":
        return import_module("mtl.compare")
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'mtl' has no attribute {name!r}")
