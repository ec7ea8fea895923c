"""What is shared, what is per task, and the loss: a LightningModule for each method."""

from mtl.methods.base import MultiTaskModule
from mtl.methods.ca_mtl import CAMTL
from mtl.methods.multi_head import MultiHead

__all__ = ["CAMTL", "MultiHead", "MultiTaskModule"]
