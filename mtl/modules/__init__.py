"""Building blocks of methods; they depend on tensors, segments and tasks, not on a trainer."""

from mtl.modules.ca_mtl import ConditionalEncoder, ConditionalOptions
from mtl.modules.encoder import Encoder
from mtl.modules.heads import (
    SAN,
    Cosine,
    HeadFactory,
    Linear,
    LinearHead,
    MTBertSAN,
)
from mtl.modules.pair_heads import CosineHead
from mtl.modules.per_task import PerTask
from mtl.modules.san import MTBertSANHead, SANHead

__all__ = [
    "SAN",
    "ConditionalEncoder",
    "ConditionalOptions",
    "Cosine",
    "CosineHead",
    "Encoder",
    "HeadFactory",
    "Linear",
    "LinearHead",
    "MTBertSAN",
    "MTBertSANHead",
    "PerTask",
    "SANHead",
]
