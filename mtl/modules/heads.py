"""Task heads, which map the outputs of an encoder to a task's logits, and their factories.

A factory is the configurable object, chosen by class path (`--model.pair_head SAN`); it makes one
module per task.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from mtl.bounds import Count, NonNegativeInt, check_bounds
from mtl.errors import UserError
from mtl.modules.initialization import linear as linear
from mtl.modules.losses import Loss
from mtl.modules.pair_heads import CosineHead
from mtl.modules.san import MTBertSANHead, SANHead
from mtl.tasks import MultipleChoice, Task, TokenLabels


class HeadShape(NamedTuple):
    """Sizes of a head that do not depend on its kind.

    Attributes:
        width: Size H of the encoder's states and pooled vectors.
        outputs: Number of outputs per example.
        dropout: Dropout probability.
        encoder_layers: Number of the encoder's layers.
        bias: Whether the output layer has a bias; transformers' classifiers for causal models have
            none.
    """

    width: int
    outputs: int
    dropout: float
    encoder_layers: int
    bias: bool = True


class HeadFactory(ABC):
    """Makes the heads of tasks.

    Constructor arguments are plain values, and attributes have their names.

    Attributes:
        reads: What its heads receive: `pooled`, one vector per example, shape (examples, H); or the
            last hidden states, shape (examples, length, H), and a mask for each of a pair's two
            texts, shape (examples, length), without the special tokens (`texts`) or with those of
            its segment (`segments`); or the last hidden states alone (`tokens`).
    """

    reads: ClassVar[Literal["pooled", "texts", "segments", "tokens"]] = "pooled"

    @abstractmethod
    def make(self, task: Task, shape: HeadShape) -> nn.Module:
        """The head of a task.

        Raises:
            UserError: If such a head cannot predict the task.
        """

    def config(self) -> dict[str, Any]:
        """The factory as it is written in a configuration: class path and arguments."""
        cls = type(self)
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": dict(vars(self))}


class Linear(HeadFactory):
    """Linear heads on the pooled vector, optionally with hidden layers.

    Args:
        hidden_layers: Number of hidden layers of size H, each with dropout before and ReLU after;
            the CS224N project has 2.
    """

    def __init__(self, hidden_layers: NonNegativeInt = 0) -> None:
        self.hidden_layers = hidden_layers
        check_bounds(type(self), vars(self), "head: ")

    def make(self, task: Task, shape: HeadShape) -> nn.Module:
        """A `LinearHead`."""
        return LinearHead(shape.width, shape.outputs, shape.dropout, self.hidden_layers, shape.bias)


class Token(Linear):
    """Linear heads on the state of each token, for token labels."""

    reads = "tokens"


class Choice(Linear):
    """Linear heads that score each candidate of a multiple choice."""

    def make(self, task: Task, shape: HeadShape) -> nn.Module:
        """A `ChoiceHead`."""
        return ChoiceHead(shape.width, shape.outputs, shape.dropout, self.hidden_layers)


class SAN(HeadFactory):
    """Stochastic answer networks as in MT-DNN: heads for the classification of text pairs.

    Args:
        steps: Number of reasoning steps.
    """

    reads = "segments"

    def __init__(self, steps: Count = 5) -> None:
        self.steps = steps
        check_bounds(type(self), vars(self), "head: ")

    def make(self, task: Task, shape: HeadShape) -> nn.Module:
        """A `SANHead`."""
        _require_pair_classification(self, task)
        return SANHead(shape.width, shape.outputs, self.steps, shape.dropout)


class MTBertSAN(HeadFactory):
    """MT-BERT's stochastic answer networks: heads for the classification of text pairs.

    Args:
        steps: Number of reasoning steps; default: the number of the encoder's layers.
    """

    reads = "segments"

    def __init__(self, steps: Count | None = None) -> None:
        self.steps = steps
        check_bounds(type(self), vars(self), "head: ")

    def make(self, task: Task, shape: HeadShape) -> nn.Module:
        """An `MTBertSANHead`."""
        _require_pair_classification(self, task)
        steps = self.steps or shape.encoder_layers
        return MTBertSANHead(shape.width, shape.outputs, steps, shape.dropout)


class Cosine(HeadFactory):
    """Heads without parameters for the regression of pairs: the cosine between their texts."""

    reads = "texts"

    def make(self, task: Task, shape: HeadShape) -> nn.Module:
        """A `CosineHead` scaled to the task's range."""
        if task.kind.value_range is None:
            raise UserError(
                f"head: Cosine predicts a number, but {task.name!r} is a {task.kind.name} task; "
                "choose Linear or SAN"
            )
        return CosineHead(*task.kind.value_range)


def choose_head(task: Task, loss: Loss, head: HeadFactory, pair_head: HeadFactory) -> HeadFactory:
    """The factory of a task's head.

    Token labels have the linear head `Token`, multiple choice has `Choice`.

    Args:
        task: The task.
        loss: Its loss. A loss that compares texts has a `Cosine` head.
        head: Head of the other tasks.
        pair_head: Head of pair classification.
    """
    if loss.compares_texts:
        return Cosine()
    if isinstance(task.kind, MultipleChoice):
        return Choice(head.hidden_layers) if type(head) is Linear else head
    if isinstance(task.kind, TokenLabels):
        return Token(head.hidden_layers) if type(head) is Linear else head
    return pair_head if task.pair and task.kind.has_class_probabilities else head


def _require_pair_classification(factory: HeadFactory, task: Task) -> None:
    if not (task.pair and task.kind.has_class_probabilities):
        number = "two texts" if task.pair else "one text"
        raise UserError(
            f"head: {type(factory).__name__} classifies text pairs, but {task.name!r} is a "
            f"{task.kind.name} task with {number}; give it as pair_head, which applies to the "
            "classification of pairs only"
        )


class LinearHead(nn.Sequential):
    """Dropout and a linear layer: class logits, or one value for regression.

    Source: Devlin et al. 2019, section 4.1; with hidden layers, the CS224N project (specification
    C.3).

    Args:
        width: Size H of the pooled vector.
        outputs: Number of outputs per example.
        dropout: Dropout probability.
        hidden: Number of hidden layers of size H, each with dropout before and ReLU after.
        bias: Whether the output layer has a bias.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        dropout: float = 0.1,
        hidden: int = 0,
        bias: bool = True,
    ) -> None:
        hidden_layers = [
            layer
            for _ in range(hidden)
            for layer in (nn.Dropout(dropout), linear(width, width), nn.ReLU())
        ]
        super().__init__(*hidden_layers, nn.Dropout(dropout), linear(width, outputs, bias))

    def forward(self, pooled: Tensor) -> Tensor:
        """(examples, ..., H) -> (examples, ..., outputs)."""
        return super().forward(pooled)


class ChoiceHead(LinearHead):
    """A score for each candidate: the sequences of an example are consecutive.

    Source: Radford et al. 2018, section 3.3; the classes for multiple choice of transformers.

    Args:
        width: Size H of the pooled vector.
        choices: Number of candidates per example.
        dropout: Dropout probability.
        hidden: Number of hidden layers, as in `LinearHead`.
    """

    def __init__(self, width: int, choices: int, dropout: float = 0.1, hidden: int = 0) -> None:
        super().__init__(width, 1, dropout, hidden)
        self.choices = choices

    def forward(self, pooled: Tensor) -> Tensor:
        """(examples * choices, H) -> (examples, choices)."""
        return super().forward(pooled).view(-1, self.choices)


def task_head(task: Task, width: int, outputs: int, dropout: float, bias: bool = True) -> nn.Module:
    """The linear head of a task, for methods without a choice of heads."""
    if isinstance(task.kind, MultipleChoice):
        return ChoiceHead(width, outputs, dropout)
    return LinearHead(width, outputs, dropout, bias=bias)
