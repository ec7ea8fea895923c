"""Evaluation mode as a context manager."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Context manager: use evaluation mode, then restore the mode of each submodule."""
    training = [submodule for submodule in module.modules() if submodule.training]
    try:
        module.eval()
        yield
    finally:
        # Not `module.train()`, which would also change frozen submodules kept in evaluation mode.
        for submodule in training:
            submodule.training = True
