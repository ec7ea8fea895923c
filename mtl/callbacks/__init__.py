"""Callbacks that write a run's results, logs and last checkpoint."""

from mtl.callbacks.checkpointing import SaveLastCheckpoint
from mtl.callbacks.conflicts import GradientConflicts
from mtl.callbacks.periodic_checkpoint import PeriodicCheckpoint
from mtl.callbacks.prediction_files import WritePredictions
from mtl.callbacks.record import MetricsRecorder
from mtl.callbacks.tensorboard import TensorBoardReport
from mtl.callbacks.throughput import ThroughputMonitor

__all__ = [
    "GradientConflicts",
    "MetricsRecorder",
    "PeriodicCheckpoint",
    "SaveLastCheckpoint",
    "TensorBoardReport",
    "ThroughputMonitor",
    "WritePredictions",
]
