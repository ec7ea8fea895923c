"""The metrics of token labels, from counts that add up over examples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mtl.tasks.tags import entity_counts
from mtl.tasks.token_labels import TokenLabels

Counts = npt.NDArray[Any]
# The columns of `example_counts`.
CORRECT, PREDICTED, LABELLED, RIGHT_WORDS, WORDS, RIGHT_EXAMPLES, EXAMPLES = range(7)


def example_counts(kind: TokenLabels, outputs: Counts, labels: Counts) -> Counts:
    """What the metrics count in each example, shape (examples, 7).

    The columns: entities that are predicted correctly, predicted, and labelled; words that are
    tagged correctly, and labelled; whether all words are, and 1.

    Args:
        kind: The kind of the task.
        outputs: The probabilities of each word's tags, shape (examples, words, tags).
        labels: The words' tags, shape (examples, words); -1 for a word that is not scored.
    """
    predicted = outputs.argmax(-1)
    entities = entity_counts(kind.finder, predicted, labels).sum(1)
    labelled = labels >= 0
    right = labelled & (predicted == labels)
    words = [right.sum(1), labelled.sum(1), (right == labelled).all(1), np.ones(len(labels))]
    return np.concatenate([entities, np.stack(words, 1)], 1).astype(float)


def entity_scores(kind: TokenLabels, outputs: Counts, labels: Counts) -> dict[str, Any]:
    """Precision, recall and F1 of each type of entities, and the number of labelled ones."""
    counts = entity_counts(kind.finder, outputs.argmax(-1), labels).sum(0).astype(float)
    return {
        name: {
            "precision": float(_ratio(correct, predicted)),
            "recall": float(_ratio(correct, labelled)),
            "f1": float(_ratio(2 * correct, predicted + labelled)),
            "entities": int(labelled),
        }
        for name, (correct, predicted, labelled) in zip(kind.finder.types, counts, strict=True)
    }


def _ratio(numerator: Any, denominator: Any) -> Any:
    """The quotient; 0 where it is undefined, as in the CoNLL scorer."""
    return np.divide(
        numerator, denominator, out=np.zeros_like(numerator, float), where=denominator > 0
    )


# From counts, shape (..., 7), to values, shape (...).
TOKEN_METRICS: dict[str, Callable[[Counts], Counts]] = {
    "entity_f1": lambda c: _ratio(2 * c[..., CORRECT], c[..., PREDICTED] + c[..., LABELLED]),
    "entity_precision": lambda c: _ratio(c[..., CORRECT], c[..., PREDICTED]),
    "entity_recall": lambda c: _ratio(c[..., CORRECT], c[..., LABELLED]),
    "token_accuracy": lambda c: _ratio(c[..., RIGHT_WORDS], c[..., WORDS]),
    "exact_match": lambda c: _ratio(c[..., RIGHT_EXAMPLES], c[..., EXAMPLES]),
}
