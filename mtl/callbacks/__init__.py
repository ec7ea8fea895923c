"""What a run leaves beside its weights."""

from mtl.callbacks.board import Board
from mtl.callbacks.conflicts import GradientConflicts
from mtl.callbacks.predictions import WritePredictions
from mtl.callbacks.record import Record
from mtl.callbacks.save_at_end import SaveAtEnd
from mtl.callbacks.traffic import Traffic

__all__ = ["Board", "GradientConflicts", "Record", "SaveAtEnd", "Traffic", "WritePredictions"]
