"""Which rows meet in a batch: one LightningDataModule for each sampling scheme."""

from mtl.data.base import MultiTaskDataModule
from mtl.data.k_shot import KShotDataModule, LeaveOneOutKShotDataModule
from mtl.data.proportional import ProportionalDataModule
from mtl.data.round_robin import RoundRobinDataModule
from mtl.data.sequential import SequentialDataModule
from mtl.data.uncertainty import UncertaintyDataModule
from mtl.data.uniform import UniformDataModule

__all__ = [
    "KShotDataModule",
    "LeaveOneOutKShotDataModule",
    "MultiTaskDataModule",
    "ProportionalDataModule",
    "RoundRobinDataModule",
    "SequentialDataModule",
    "UncertaintyDataModule",
    "UniformDataModule",
]
