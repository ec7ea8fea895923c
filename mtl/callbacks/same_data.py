"""Refuses to resume a run with other data than those it was started with."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mtl.callbacks.typed_trainer import datamodule_of
from mtl.errors import UserError


class SameData(Callback):
    """Keeps the fingerprints of the data in the checkpoint, and compares them when a run resumes.

    A data set that was moved has the same fingerprint.
    """

    def __init__(self) -> None:
        self.fingerprints: dict[str, str] = {}

    def state_dict(self) -> dict[str, Any]:
        """The fingerprints."""
        return {"fingerprints": self.fingerprints}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the fingerprints of the run's start."""
        self.fingerprints = state_dict["fingerprints"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the fingerprints.

        Raises:
            UserError: If the examples of a split have changed.
        """
        data = datamodule_of(trainer)
        current = data.fingerprints
        for name, encoded in data.open_splits.items():
            before = self.fingerprints.get(name, current[name])
            if before != current[name]:
                raise UserError(
                    f"task {name.partition(', ')[0]!r}: {encoded.report.where} has changed since "
                    f"the run was started (fingerprint {current[name]}, in the checkpoint "
                    f"{before}); resume with the data of its start, which may be in another place, "
                    "or train a new run from its weights with --model.init_from"
                )
        self.fingerprints = current
