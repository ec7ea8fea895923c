"""Adds noise to the outputs of layers, for another forward pass over the same batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Perturbed:
    """Records the outputs of layers in a step's first forward pass; perturbs them in later ones.

    The perturbed outputs are computed from the recorded ones, so that gradients reach the layers'
    weights through the first pass only.

    Args:
        layers: The layers.
        skip_computation: Whether the layer, of which there must be one, is not computed in the
            later passes. This saves the computation of an encoder.

    Attributes:
        outputs: The outputs in the first forward pass of the step, one per call of a layer.
    """

    def __init__(self, *layers: nn.Module, skip_computation: bool = False) -> None:
        self.outputs: list[Tensor] = []
        self._replacements: list[Tensor] | None = None
        self._skipped_layer = layers[0] if skip_computation else None
        for layer in layers:
            layer.register_forward_hook(self._record_or_replace)

    def start(self) -> None:
        """Forgets the outputs of the last step."""
        self.outputs = []

    @contextmanager
    def by(self, noise: list[Tensor]) -> Iterator[None]:
        """Context manager: layers return their recorded outputs plus noise.

        Args:
            noise: For each recorded output its noise, of the same shape.
        """
        self._replacements = [
            output + added for output, added in zip(self.outputs, noise, strict=True)
        ]
        if self._skipped_layer is not None:
            vars(self._skipped_layer)["forward"] = lambda *args: self.outputs[0]
        try:
            yield
        finally:
            self._replacements = None
            if self._skipped_layer is not None:
                del vars(self._skipped_layer)["forward"]

    def _record_or_replace(self, layer: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled():
            return None
        if self._replacements is None:
            self.outputs.append(output)
            return None
        return self._replacements.pop(0)

    def __getstate__(self) -> dict[str, Any]:
        """Excludes the tensors of the current step, whose graphs cannot be copied."""
        return vars(self) | {"outputs": [], "_replacements": None}


def word_embeddings(model: nn.Module) -> list[nn.Module]:
    """The word embedding tables of all transformers models within a model, each once."""
    tables = {}
    for module in model.modules():
        get_input_embeddings = getattr(module, "get_input_embeddings", None)
        if get_input_embeddings and (table := get_input_embeddings()) is not None:
            tables[id(table)] = table
    return list(tables.values())
