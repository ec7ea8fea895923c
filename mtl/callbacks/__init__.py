"""Callbacks that write a run's results, logs and last checkpoint."""

from mtl.callbacks.checkpointing import BestCheckpoint, SaveLastCheckpoint
from mtl.callbacks.conflicts import GradientConflicts
from mtl.callbacks.early_stopping import TaskEarlyStopping
from mtl.callbacks.gradient_snapshots import GradientSnapshots
from mtl.callbacks.monitors import CheckMonitors
from mtl.callbacks.periodic_checkpoint import PeriodicCheckpoint
from mtl.callbacks.prediction_files import WritePredictions
from mtl.callbacks.prediction_report import PredictionReport
from mtl.callbacks.record import MetricsRecorder
from mtl.callbacks.same_data import SameData
from mtl.callbacks.stop_on_signal import StopOnSignal
from mtl.callbacks.task_affinity import TaskAffinity
from mtl.callbacks.tensorboard import TensorBoardLayout
from mtl.callbacks.throughput import ThroughputMonitor

__all__ = [
    "BestCheckpoint",
    "CheckMonitors",
    "GradientConflicts",
    "GradientSnapshots",
    "MetricsRecorder",
    "PeriodicCheckpoint",
    "PredictionReport",
    "SameData",
    "SaveLastCheckpoint",
    "StopOnSignal",
    "TaskAffinity",
    "TaskEarlyStopping",
    "TensorBoardLayout",
    "ThroughputMonitor",
    "WritePredictions",
]
