"""CA-MTL's modules that depend on the task embedding.

Everything that depends on the task alone is computed once per task, shape (T, ...), and indexed
with the task id of each example. There is no loop over tasks and no synchronization with a GPU.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.errors import UserError
from mtl.modules.initialization import linear
from mtl.modules.task_context import expand_per_example


class Conditions(NamedTuple):
    """Tensors that depend on the task alone, computed once per step for all tasks.

    Attributes:
        alignment: Scale and shift of the embeddings, each (T, H); None if switched off.
        biases: Attention bias of each layer as a matrix (T, L, r); None if switched off.
        norms: Weights of the two normalizations of each layer, each (T, H); None if they are not
            conditional.
        top: Weight of the normalization after the bottleneck of the base variant, (T, H); None in
            the large variant.
        bottlenecks: Scale and shift of each bottleneck, each (T, H).
    """

    alignment: tuple[Tensor, Tensor] | None
    biases: list[Tensor | None]
    norms: list[tuple[Tensor, Tensor] | None]
    top: Tensor | None
    bottlenecks: list[tuple[Tensor, Tensor]]


class TaskEmbedding(nn.Embedding):
    """A vector per task, initialized with N(0, 0.02).

    Source: Pilault et al. 2021, section 2, as released.

    Args:
        tasks: Number of tasks.
        width: Size H of a vector.
    """

    task_specific: ClassVar[bool] = True  # tasks do not share embeddings

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__(tasks, width)
        nn.init.normal_(self.weight, std=0.02)


class FiLM(nn.Module):
    """Feature-wise linear modulation: x -> (1 + gamma) x + beta.

    gamma and beta are linear in a condition.

    Source: Perez et al. 2018; Pilault et al. 2021, section 2.1.

    Args:
        condition: Size C of the condition.
        width: Size W of the modulated vectors.
    """

    def __init__(self, condition: int, width: int) -> None:
        super().__init__()
        self.gamma_beta = linear(condition, 2 * width)

    def forward(self, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the modulation of each task.

        The result is in fp32 under mixed precision: gamma is about 0.01 at first, and bf16 rounds
        1 + gamma.

        Args:
            conditions: One condition per task, shape (T, C).

        Returns:
            1 + gamma and beta, each of shape (T, W).
        """
        gamma, beta = self.gamma_beta(conditions).float().chunk(2, dim=-1)
        return 1 + gamma, beta


class ConditionalAttentionBias(nn.Module):
    """A task's bias of a layer's attention scores: a block-diagonal matrix, the same for all heads.

    Source: Pilault et al. 2021, section 2.2, as released: a parameter A of shape L x r, zeros at
    first, whose columns are modulated by the task. Row i of A becomes row i of the bias, in the
    columns of block i // r.

    Args:
        width: Size H of the hidden states and of a condition.
        length: Maximum length L of an example in tokens.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.block = -(-length // max(1, width // length))  # r = ceil(L / N), N = H // L
        self.matrix = nn.Parameter(torch.zeros(length, self.block))
        self.film = FiLM(width, self.block)

    def forward(self, conditions: Tensor) -> Tensor:
        """Computes each task's modulated matrix, shape (T, L, r), from conditions (T, H)."""
        scale, shift = self.film(conditions)
        return torch.addcmul(
            shift.unsqueeze(1), expand_per_example(self.matrix, len(conditions)), scale.unsqueeze(1)
        )

    def block_diagonal(self, matrices: Tensor, length: int) -> Tensor:
        """Computes each task's bias between the first `length` positions.

        Args:
            matrices: Output of `forward`, shape (T, L, r).
            length: Number of positions.

        Returns:
            The biases, shape (T, length, length).
        """
        positions = torch.arange(length, device=matrices.device)
        blocks = positions // self.block
        same_block = blocks.unsqueeze(1) == blocks  # (length, length)
        return matrices[:, :length, positions % self.block] * same_block


class ConditionalLayerNorm(nn.LayerNorm):
    """Layer normalization whose weight, but not its bias, is modulated by the task.

    Source: Pilault et al. 2021, section 2.1 (conditional layer normalization), as released.

    Args:
        norm: The pretrained normalization; weight, bias and epsilon are copied.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, eps=norm.eps)
        self.load_state_dict(norm.state_dict())
        width = norm.normalized_shape[0]
        self.film = FiLM(width, width)

    def weights(self, conditions: Tensor) -> Tensor:
        """Computes each task's weight, shape (T, H), from conditions (T, H)."""
        scale, shift = self.film(conditions)
        return torch.addcmul(shift, scale, expand_per_example(self.weight, len(conditions)))

    def forward(self, states: Tensor, weights: Tensor | None = None) -> Tensor:
        """Normalizes hidden states.

        Args:
            states: Hidden states, shape (examples, length, H).
            weights: The weight of each example's task, shape (examples, H); default: the
                unmodulated weight.
        """
        if weights is None:
            return super().forward(states)
        bias = expand_per_example(self.bias, states.shape[0]).unsqueeze(1)
        return torch.addcmul(
            bias, F.layer_norm(states, self.normalized_shape, eps=self.eps), weights.unsqueeze(1)
        )


class ConditionalBottleneck(nn.Module):
    """A linear map of rank H // 3 of states modulated by the task.

    It has neither a non-linearity nor a residual connection, as released.

    Source: Pilault et al. 2021, section 2.1 (conditional bottleneck).

    Args:
        width: Size H of the hidden states and of a condition.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.condition = linear(width, width)
        self.film = FiLM(width, width)
        self.down, self.up = linear(width, width // 3), linear(width // 3, width)

    def factors(self, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Computes scale and shift of each task, each (T, H), from conditions (T, H)."""
        scale, shift = self.film(self.condition(conditions))
        return scale, shift

    def forward(self, states: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Applies the bottleneck.

        Args:
            states: Hidden states, shape (examples, length, H).
            scale: Scale of each example's task, shape (examples, H).
            shift: Shift of each example's task, shape (examples, H).
        """
        return self.up(self.down(torch.addcmul(shift.unsqueeze(1), states, scale.unsqueeze(1))))


def freeze_pretrained(
    layers: Sequence[nn.Module], embeddings: Sequence[nn.Module], first: int, last: int
) -> None:
    """Freezes the pretrained weights of the embeddings and of a range of layers.

    Args:
        layers: The layers, with conditional normalizations, whose modulations stay trainable.
        embeddings: The modules of the embeddings.
        first: Index of the first layer.
        last: Index of the last layer.

    Raises:
        UserError: If the backbone lacks one of the layers.
    """
    if not 0 <= first <= last < len(layers):
        raise UserError(
            f"--model.freeze_layers {first}-{last}: the backbone's layers are 0-{len(layers) - 1}"
        )
    for module in [*embeddings, *layers[first : last + 1]]:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_("film" in name.split("."))
