"""Regularizers: penalties that are added to the task losses."""

from mtl.regularizers.alignment import Alignment
from mtl.regularizers.base import Regularizer
from mtl.regularizers.distillation import Distillation
from mtl.regularizers.smart import SMART

__all__ = ["SMART", "Alignment", "Distillation", "Regularizer"]
