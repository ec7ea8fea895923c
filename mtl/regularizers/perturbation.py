"""Adds noise to the outputs of modules, for another forward pass over the same batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import UserError
from mtl.modules.bypass import Bypassable
from mtl.modules.families import embeddings


class Perturbed:
    """Records the outputs of modules in a step's first forward pass; perturbs them in later ones.

    The perturbed outputs are computed from the recorded ones, so gradients reach the modules'
    weights through the first pass only.

    Args:
        modules: The modules. Their outputs are tensors.

    Attributes:
        outputs: The outputs in the first forward pass of the step, one per call of a module.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.outputs: list[Tensor] = []
        self._replacements: list[Tensor] | None = None
        self._hooks = [module.register_forward_hook(self._record_or_replace) for module in modules]

    def start(self) -> None:
        """Forgets the outputs of the last step."""
        self.outputs = []

    def remove(self) -> None:
        """Stops recording."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def by(self, noise: list[Tensor]) -> Iterator[None]:
        """Context manager: the modules return their recorded outputs plus noise.

        Args:
            noise: For each recorded output its noise, of the same shape.
        """
        self._replacements = [
            output + added for output, added in zip(self.outputs, noise, strict=True)
        ]
        try:
            yield
        finally:
            self._replacements = None

    def _record_or_replace(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled():
            return None
        if self._replacements is None:
            self.outputs.append(output)
            return None
        return self._replacements.pop(0)

    def __getstate__(self) -> dict[str, Any]:
        """Excludes the tensors of the current step, whose graphs cannot be copied."""
        return vars(self) | {"outputs": [], "_replacements": None}


class PerturbedWithoutComputation(Perturbed):
    """As `Perturbed`, for one module that is not computed again in the later passes.

    Args:
        module: The module, such as an encoder.
    """

    def __init__(self, module: Bypassable) -> None:
        super().__init__(module)
        self._module = module

    @contextmanager
    def by(self, noise: list[Tensor]) -> Iterator[None]:
        """Context manager: the module returns its recorded output plus noise."""
        (output,), (added,) = self.outputs, noise
        with self._module.returning(output + added):
            yield


def word_embeddings(model: nn.Module) -> list[nn.Module]:
    """The word embedding tables of all transformers models within a model, each once."""
    return list(dict.fromkeys(table for _, table in _models_with_tables(model)))


def embedding_blocks(model: nn.Module) -> list[nn.Module]:
    """The modules that compute the input of the first layer, of all transformers models.

    In BERT and its relatives it is the sum of word, position and segment embeddings, with its
    normalization and dropout.

    Raises:
        UserError: If a model's family is not in the table of families.
    """
    transformers = [transformer for transformer, _ in _models_with_tables(model)]
    try:
        return [embeddings(transformer, "SMART") for transformer in transformers]
    except UserError as error:
        raise UserError(f"{error} Or choose target: words.") from error


def pooling_encoder(method: Any) -> Any:
    """The encoder whose output is one vector per example, which the heads read.

    Raises:
        UserError: If there is not one encoder, or the heads read more than that vector.
    """
    name, encoder = type(method).__name__, getattr(method, "encoder", None)
    if encoder is None:
        raise UserError(
            f"SMART: target: pooled: {name} does not have one encoder for all tasks; choose "
            "target: embeddings"
        )
    if method.reads_token_states:
        raise UserError(
            f"SMART: target: pooled: the heads of {name} read more than a pooled vector; choose "
            "target: embeddings"
        )
    return encoder


def _models_with_tables(model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Each transformers model without a head within a model, and its word embedding table."""
    found: dict[int, tuple[nn.Module, nn.Module]] = {}
    for module in model.modules():
        get_input_embeddings = getattr(module, "get_input_embeddings", None)
        if get_input_embeddings and (table := get_input_embeddings()) is not None:
            # The innermost model comes last.
            found[id(table)] = module, table
    return list(found.values())
