"""Parts of methods: they know tensors, segments and tasks, never a trainer."""

from mtl.modules.ca_mtl import ConditionalEncoder
from mtl.modules.encoder import Encoder
from mtl.modules.heads import CosineHead, LinearHead
from mtl.modules.per_task import PerTask
from mtl.modules.san import SAN, MTBertSAN

__all__ = [
    "SAN",
    "ConditionalEncoder",
    "CosineHead",
    "Encoder",
    "LinearHead",
    "MTBertSAN",
    "PerTask",
]
