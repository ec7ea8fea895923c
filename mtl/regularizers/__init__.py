"""Losses beside the tasks' own."""

from mtl.regularizers.base import Regularizer
from mtl.regularizers.smart import SMART

__all__ = ["SMART", "Regularizer"]
