"""The loss of token labels."""

from torch import Tensor
from torch.nn import functional as F

from mtl.batch import fitted_labels
from mtl.modules.binary_losses import WeightedByClass


class TokenCrossEntropy(WeightedByClass):
    """Cross-entropy of the softmax over the tags, summed over the labelled tokens of an example.

    The denominator of the task's loss counts these tokens, so the loss is the mean over tokens.

    Args:
        tags: Number of tags.
    """

    of_values = False
    compares_texts = False

    def __init__(self, tags: int) -> None:
        self.size = tags

    def example_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum of the tokens' losses, shape (examples,).

        Args:
            logits: Shape (examples, length, tags).
            labels: Shape (examples, any length); -1 for a token without label.
        """
        labels = fitted_labels(labels, logits.shape[1])
        return F.cross_entropy(
            logits.transpose(1, 2), labels, reduction="none", ignore_index=-1
        ).sum(-1)

    def outputs(self, logits: Tensor) -> Tensor:
        """The softmax."""
        return logits.softmax(-1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler divergence KL(softmax(logits) || softmax(others)) of each token."""
        return F.kl_div(
            others.log_softmax(-1), logits.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)


def word_values(values: Tensor, words: Tensor, empty: float) -> Tensor:
    """The values of each word's first token.

    Args:
        values: Shape (examples, length, ...).
        words: Number of each first token's word, counted from 1, shape (examples, length); others
            are not above 0.
        empty: The value of words without a token.

    Returns:
        Shape (examples, words, ...).
    """
    examples, positions = (words > 0).nonzero(as_tuple=True)
    count = max([1, *words.flatten().tolist()])
    result = values.new_full((len(values), count, *values.shape[2:]), empty)
    result[examples, words[examples, positions] - 1] = values[examples, positions]
    return result
