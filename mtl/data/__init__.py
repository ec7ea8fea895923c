"""Sampling schemes, which decide the examples of a batch: one LightningDataModule for each."""

from mtl.data.base import MultiTaskDataModule
from mtl.data.k_shot import KShotDataModule
from mtl.data.leave_one_out import LeaveOneOutKShotDataModule
from mtl.data.loss_proportional import LossProportionalDataModule
from mtl.data.proportional import ProportionalDataModule
from mtl.data.round_robin import RoundRobinDataModule
from mtl.data.sequential import SequentialDataModule
from mtl.data.uncertainty import UncertaintyDataModule
from mtl.data.uniform import UniformDataModule

__all__ = [
    "KShotDataModule",
    "LeaveOneOutKShotDataModule",
    "LossProportionalDataModule",
    "MultiTaskDataModule",
    "ProportionalDataModule",
    "RoundRobinDataModule",
    "SequentialDataModule",
    "UncertaintyDataModule",
    "UniformDataModule",
]
