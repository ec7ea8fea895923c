"""Balancers: combine several task losses into one update."""

from mtl.balancing.base import Balancer
from mtl.balancing.coba import CoBa
from mtl.balancing.log_classes import LogClasses
from mtl.balancing.loss_weights import BySize, Chebyshev, Equal, Fixed, PerExample, Sum
from mtl.balancing.scalarized import Scalarized
from mtl.balancing.surgery import Surgery

__all__ = [
    "Balancer",
    "BySize",
    "Chebyshev",
    "CoBa",
    "Equal",
    "Fixed",
    "LogClasses",
    "PerExample",
    "Scalarized",
    "Sum",
    "Surgery",
]
