"""Parts of CA-MTL that depend on a task's embedding.

What depends on the task alone is computed once for each task, shape (T, ...), and then picked for each row by its task id:
no loop over tasks, and nothing that a GPU must wait for.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.modules.heads import linear
from mtl.modules.task_context import expand_per_example


class TaskEmbedding(nn.Embedding):
    """A vector for each task, N(0, 0.02) at first.

    Source: Pilault et al. 2021, section 2, as released.

    Args:
        tasks: Number of tasks.
        width: Size H of a vector.
    """

    task_specific: ClassVar[bool] = True  # no task reads another's

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__(tasks, width)
        nn.init.normal_(self.weight, std=0.02)


class FiLM(nn.Module):
    """Feature-wise linear modulation: x -> (1 + gamma) x + beta, gamma and beta linear in a condition.

    Source: Perez et al. 2018; Pilault et al. 2021, section 2.1.

    Args:
        condition: Size C of the condition.
        width: Size W of what is modulated.
    """

    def __init__(self, condition: int, width: int) -> None:
        super().__init__()
        self.gamma_beta = linear(condition, 2 * width)

    def forward(self, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """1 + gamma and beta of each task, each (T, W), from conditions (T, C).

        In fp32 whatever the precision of products: gamma is about a hundredth at first, which 1 + gamma in bf16 rounds off.
        """
        gamma, beta = self.gamma_beta(conditions).float().chunk(2, dim=-1)
        return 1 + gamma, beta


class ConditionalAttentionBias(nn.Module):
    """What a task adds to a layer's attention scores: blocks on the diagonal, the same for all heads and contents.

    Source: Pilault et al. 2021, section 2.2, as released: a parameter A of L x r, zeros at first, modulated column by
    column by the task; its rows i stand in the columns of block i // r.

    Args:
        width: Size H of the hidden states and of a condition.
        length: Longest row L in tokens.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.block = -(-length // max(1, width // length))  # r = ceil(L / N), N = H // L
        self.matrix = nn.Parameter(torch.zeros(length, self.block))
        self.film = FiLM(width, self.block)

    def forward(self, conditions: Tensor) -> Tensor:
        """Each task's modulated matrix, (T, L, r), from conditions (T, H)."""
        scale, shift = self.film(conditions)
        return torch.addcmul(
            shift.unsqueeze(1), expand_per_example(self.matrix, len(conditions)), scale.unsqueeze(1)
        )

    def spread(self, matrices: Tensor, length: int) -> Tensor:
        """Each task's bias between the first `length` positions, (T, length, length), from its matrix (T, L, r)."""
        places = torch.arange(length, device=matrices.device)
        blocks = places // self.block
        inside = blocks.unsqueeze(1) == blocks  # (length, length)
        return matrices[:, :length, places % self.block] * inside


class ConditionalLayerNorm(nn.LayerNorm):
    """Layer normalisation whose weight, not its bias, is modulated by the task.

    Source: Pilault et al. 2021, section 2.1 (conditional layer normalisation), as released.

    Args:
        norm: The pretrained normalisation, whose weight, bias and epsilon are taken over.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, eps=norm.eps)
        self.load_state_dict(norm.state_dict())
        width = norm.normalized_shape[0]
        self.film = FiLM(width, width)

    def weights(self, conditions: Tensor) -> Tensor:
        """Each task's weight, (T, H), from conditions (T, H)."""
        scale, shift = self.film(conditions)
        return torch.addcmul(shift, scale, expand_per_example(self.weight, len(conditions)))

    def forward(self, states: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        """Normalised states (rows, length, H), with each row's own weight (rows, H)."""
        bias = expand_per_example(self.bias, states.shape[0]).unsqueeze(1)
        return torch.addcmul(
            bias, F.layer_norm(states, self.normalized_shape, eps=self.eps), weights.unsqueeze(1)
        )


class ConditionalBottleneck(nn.Module):
    """A map of rank H // 3 after a modulation by the task; neither a non-linearity nor a residual inside, as released.

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
        """Scale and shift of each task, each (T, H), from conditions (T, H)."""
        return self.film(self.condition(conditions))

    def forward(self, states: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """States (rows, length, H) through the bottleneck, with each row's own scale and shift (rows, H)."""
        return self.up(self.down(torch.addcmul(shift.unsqueeze(1), states, scale.unsqueeze(1))))
