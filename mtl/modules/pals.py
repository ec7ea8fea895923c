"""Modules of projected attention layers (PALs)."""

from torch import Tensor, nn
from torch.nn import functional as F

from mtl.modules.adapters import Init
from mtl.modules.initialization import linear


class Projections(nn.Module):
    """A pair of linear layers: down to a small width, and up again.

    Args:
        width: Size H of the hidden states.
        size: The small width.
        init: Initialization of the layer up. `zero`: its output is 0; `normal`: N(0, 0.02).
    """

    def __init__(self, width: int, size: int, init: Init) -> None:
        super().__init__()
        self.down, self.up = linear(width, size), linear(size, width)
        if init == "zero":
            nn.init.zeros_(self.up.weight)


class SmallAttention(nn.Module):
    """Multi-head self-attention without an output projection.

    Source: Stickland and Murray 2019, section 3.2, with the dropout of the authors' release.

    Args:
        size: Size S of inputs and outputs.
        heads: Number of heads, a divisor of S.
        dropout: Probability that an attention probability is dropped in training.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (linear(size, size) for _ in range(3))
        self.heads, self.dropout = heads, dropout

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Maps (examples, length, S) to the same shape.

        Args:
            states: Inputs.
            mask: Mask of the backbone's attention, boolean or values to add to the scores, shape
                (examples, 1, length, length); None if all tokens are attended to.
        """
        query, key, value = (
            projection(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        if mask is not None and mask.dtype != query.dtype and mask.is_floating_point():
            mask = mask.to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        return attended.transpose(1, 2).flatten(2)


class ProjectedAttention(nn.Module):
    """V_D Attn(V_E x): projection down, attention, projection up.

    Args:
        width: Size H of the hidden states.
        size: The small width.
        heads: Number of heads.
        init: Initialization of the projection up, see `Projections`.
        dropout: Probability that an attention probability is dropped in training.
    """

    def __init__(self, width: int, size: int, heads: int, init: Init, dropout: float) -> None:
        super().__init__()
        self.projections = Projections(width, size, init)
        self.attention = SmallAttention(size, heads, dropout)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Maps hidden states (examples, length, H) to the same shape."""
        return self.projections.up(self.attention(self.projections.down(states), mask))
