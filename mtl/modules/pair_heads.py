"""What heads on the two texts of a pair need: masks of the texts, and the cosine between them."""

from torch import Tensor, nn
from torch.nn import functional as F


class CosineHead(nn.Module):
    """The cosine between the mean states of a pair's texts, scaled from [-1, 1] to a range.

    Both texts pass through the encoder as one sequence, as for every other head, so each attends to
    the other.

    Args:
        low: Lowest value.
        high: Highest value.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, states: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Predicts values, shape (examples, 1).

        Args:
            states: Hidden states, shape (examples, length, H).
            first: Mask of the first text's tokens, shape (examples, length).
            second: Mask of the second text's tokens, shape (examples, length).
        """
        first_mean, second_mean = _masked_mean(states, first), _masked_mean(states, second)
        cosine = F.cosine_similarity(first_mean, second_mean, dim=-1).unsqueeze(-1)
        return self.low + (self.high - self.low) * (cosine + 1) / 2


def text_masks(
    input_ids: Tensor, attention_mask: Tensor, separator: int, special_tokens: bool
) -> tuple[Tensor, Tensor]:
    """Masks of the two texts of each pair, each (examples, length).

    Args:
        input_ids: Token ids, shape (examples, length).
        attention_mask: 1 for tokens, 0 for padding, shape (examples, length).
        separator: Id of the token that ends a text; some tokenizers write two of them between the
            texts.
        special_tokens: Whether a text's mask includes the special tokens of its segment: of the
            first text the classification token and the first separator, of the second text all
            later separators.
    """
    tokens, separators = attention_mask.bool(), input_ids.eq(separator)
    # The separator that ends the first text belongs to it.
    second = separators.cumsum(1) - separators.long() > 0
    if not special_tokens:
        tokens = tokens & ~separators
        tokens[:, :1] = False  # the classification token
    return tokens & ~second, tokens & second


def _masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
