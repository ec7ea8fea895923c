"""Building blocks of methods; they depend on tensors, segments and tasks, not on a trainer."""

from mtl.modules.ca_mtl import ConditionalEncoder, ConditionalOptions
from mtl.modules.encoder import Encoder
from mtl.modules.heads import CosineHead, LinearHead
from mtl.modules.per_task import PerTask
from mtl.modules.san import SAN, MTBertSAN

__all__ = [
    "SAN",
    "ConditionalEncoder",
    "ConditionalOptions",
    "CosineHead",
    "Encoder",
    "LinearHead",
    "MTBertSAN",
    "PerTask",
]
