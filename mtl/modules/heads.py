"""From a row's vector to a task's numbers."""

from torch import Tensor, nn
from torch.nn import functional as F


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer as BERT's start: weights N(0, 0.02), biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(nn.Sequential):
    """Dropout and a linear layer: logits of the classes, or one number for regression.

    Source: Devlin et al. 2019, section 4.1; with hidden layers, the CS224N project (specification C.3).

    Args:
        width: Size H of a row's vector.
        outputs: Numbers for each row.
        dropout: Share of the vector's entries dropped in training.
        hidden: Hidden layers of size H before, each with dropout before and ReLU after.
    """

    def __init__(self, width: int, outputs: int, dropout: float = 0.1, hidden: int = 0) -> None:
        before = [
            part
            for _ in range(hidden)
            for part in (nn.Dropout(dropout), linear(width, width), nn.ReLU())
        ]
        super().__init__(*before, nn.Dropout(dropout), linear(width, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """(rows, H) -> (rows, outputs)."""
        return super().forward(rows)


class CosineHead(nn.Module):
    """The cosine between the mean states of a pair's two texts, from -1 to 1 stretched over a task's range.

    Both texts pass through the encoder as one row, as for every other head, so each has seen the other.

    Args:
        low: The lowest value.
        high: The highest value.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, states: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """States (rows, length, H), of which (rows, length) are each text's, to values (rows, 1)."""
        one, two = (_mean(states, text) for text in (first, second))
        return (
            self.low
            + (self.high - self.low) * (F.cosine_similarity(one, two, dim=-1).unsqueeze(-1) + 1) / 2
        )


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
