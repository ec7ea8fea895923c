"""A shared encoder whose last layers exist once per task."""

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mtl.bounds import Count
from mtl.errors import UserError
from mtl.methods.multi_head import MultiHead
from mtl.modules.families import bert_layers
from mtl.modules.per_task import PerTask
from mtl.tasks import Task


class LayerPerTask(nn.Module):
    """Takes the place of an encoder layer and applies to each example the layer of its task.

    Args:
        tasks: The tasks.
        layer: The pretrained layer, of which each task gets a copy.
    """

    def __init__(self, tasks: Sequence[Task], layer: nn.Module) -> None:
        super().__init__()
        self.per_task = PerTask(tasks, lambda task: copy.deepcopy(layer))

    def forward(self, states: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """Maps hidden states to the hidden states after the layer, both (examples, length, H).

        The other arguments that an encoder passes to its layers are for decoders and are ignored.

        Args:
            states: Hidden states.
            mask: The encoder's attention mask, whose dimension 0 is the example; None if all tokens
                are attended to.
        """
        return self.per_task.apply_per_task(states, mask)


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
            backbone's layers do not have BERT's layout.
    """

    def __init__(self, layers: Count = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        encoder_layers = bert_layers(self.encoder.backbone, "TaskLayers")
        depth = len(encoder_layers)
        if not 1 <= layers <= depth:
            raise UserError(
                f"--model.layers {layers}: the encoder has {depth} layers; give 1 to {depth}"
            )
        for index in range(depth - layers, depth):
            encoder_layers[index] = LayerPerTask(self.tasks, encoder_layers[index])
