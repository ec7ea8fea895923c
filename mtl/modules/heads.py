"""From a row's vector to a task's numbers."""

from torch import Tensor, nn


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer as BERT's start: weights N(0, 0.02), biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(nn.Sequential):
    """Dropout and a linear layer: logits of the classes, or one number for regression.

    Source: Devlin et al. 2019, section 4.1.

    Args:
        width: Size H of a row's vector.
        outputs: Number of classes, or 1 for regression.
        dropout: Share of the vector's entries dropped in training.
    """

    def __init__(self, width: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__(nn.Dropout(dropout), linear(width, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """(rows, H) -> (rows, outputs)."""
        return super().forward(rows)  # type: ignore[no-any-return]
