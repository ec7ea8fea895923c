"""A shared encoder whose last layers exist once per task."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl.bounds import Count
from mtl.errors import UserError
from mtl.methods.multi_head import MultiHead
from mtl.modules.families import family
from mtl.modules.per_task import PerTask
from mtl.tasks import Task

# Arguments of layers whose dimension 0 is the example, or has size 1.
PER_EXAMPLE = ("attention_mask", "position_bias", "position_embeddings", "position_ids")


class LayerPerTask(nn.Module):
    """Takes the place of an encoder layer and applies to each example the layer of its task.

    Args:
        tasks: The tasks.
        layer: The pretrained layer, of which each task gets a copy.
    """

    def __init__(self, tasks: Sequence[Task], layer: nn.Module) -> None:
        super().__init__()
        self.per_task = PerTask(tasks, lambda task: copy.deepcopy(layer))
        self.signature = inspect.signature(layer.forward)
        self.attention_type = getattr(layer, "attention_type", None)  # ModernBERT reads it

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer of each task with its examples; takes and returns what a layer does."""
        arguments = self.signature.bind(*args, **kwargs).arguments
        arguments |= arguments.pop("kwargs", {})
        states = arguments.pop("hidden_states")
        outputs = []
        for task, start, stop in self.per_task.spans(states):
            own = {
                name: _take(value, start, stop, len(states)) if name in PER_EXAMPLE else value
                for name, value in arguments.items()
            }
            outputs.append(self.per_task[task](states[start:stop], **own))
        if isinstance(outputs[0], tuple):  # the states, and attention weights that nothing reads
            return torch.cat([output[0] for output in outputs]), *outputs[0][1:]
        return torch.cat(outputs)


def _take(value: Any, start: int, stop: int, examples: int) -> Any:
    """Some examples of a tensor, or of tensors, unless all examples share it."""
    if isinstance(value, tuple):
        return tuple(_take(each, start, stop, examples) for each in value)
    return value[start:stop] if isinstance(value, Tensor) and len(value) == examples else value


class TaskLayers(MultiHead):
    """The last k encoder layers exist once per task, as copies of the pretrained layers.

    Source: none; a baseline between sharing all layers and sharing none.
    Reads: token ids.  Batches: any scheme; the examples of several tasks share one forward pass.
    Per task: the last k layers and a head.  Shared: the embeddings and all other layers.
    See also: `MultiHead`, which shares all layers; `Separate`, which shares none.

    Args:
        layers: Number k of layers that exist once per task.

    Raises:
        UserError: If `layers` is not between 1 and the number of the encoder's layers, or if the
            family of the backbone is not known or has no layers of its own (ALBERT).
    """

    def __init__(self, layers: Count = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        backbone = self.encoder.backbone
        encoder_layers: Any = backbone.get_submodule(
            family(backbone.config.model_type, "TaskLayers").layers
        )
        depth = len(encoder_layers)
        if not 1 <= layers <= depth:
            raise UserError(
                f"--model.layers {layers}: the encoder has {depth} layers; give 1 to {depth}"
            )
        for index in range(depth - layers, depth):
            encoder_layers[index] = LayerPerTask(self.tasks, encoder_layers[index])
