"""Loggers: how each takes figures and tables, and one for trackio."""

from mtl.loggers.media import TextTable, log_figure, log_table
from mtl.loggers.trackio import TrackioLogger

__all__ = ["TextTable", "TrackioLogger", "log_figure", "log_table"]
