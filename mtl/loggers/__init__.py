"""Loggers: how each takes figures and tables, and one for trackio."""

from mtl.loggers.media import log_figure, log_table
from mtl.loggers.text_table import TextTable
from mtl.loggers.trackio import TrackioLogger

__all__ = ["TextTable", "TrackioLogger", "log_figure", "log_table"]
