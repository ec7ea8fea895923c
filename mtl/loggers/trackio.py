"""A logger for trackio, which Lightning does not have."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mtl.errors import UserError


class TrackioLogger(Logger):
    """Logs to trackio: to a folder of this machine, or to a Space of the Hugging Face hub.

    `trackio show` opens the dashboard. The folder is that of the environment variable
    `TRACKIO_DIR`; trackio has a default.

    Args:
        project: Name of the project.
        name: Name of the run; trackio chooses one by default. An existing run is continued.
        space_id: The Space that gets everything, as OWNER/NAME; None for this machine.

    Raises:
        UserError: If trackio is not installed.
    """

    def __init__(
        self, project: str = "mtl", name: str | None = None, space_id: str | None = None
    ) -> None:
        try:
            self._trackio: Any = import_module("trackio")
        except ImportError as error:
            raise UserError(
                f"TrackioLogger needs the package trackio ({error}); run `pip install trackio`"
            ) from error
        super().__init__()
        self._project, self._name, self._space_id = project, name, space_id
        self._hparams: dict[str, Any] = {}
        self._run: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of trackio; it begins with the first value that is logged."""
        if self._run is None:
            self._run = self._trackio.init(
                self._project,
                self._name,
                space_id=self._space_id,
                config=self._hparams,
                resume="allow",
                embed=False,
            )
            self._name = self._run.name  # a test after the training continues it
        return self._run

    @property
    def name(self) -> str:
        """Name of the project."""
        return self._project

    @property
    def version(self) -> str | None:
        """Name of the run; None before it begins, unless one was given."""
        return self._name

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Keeps hyper-parameters for the beginning of the run."""
        self._hparams |= vars(params) if isinstance(params, Namespace) else params

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs numbers."""
        self.experiment.log(dict(metrics), step)

    @rank_zero_only
    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """Logs an image of uint8, shape (height, width, 3)."""
        self.experiment.log({name: self._trackio.Image(image)}, step)

    @rank_zero_only
    def log_table(
        self,
        name: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        step: int | None = None,
    ) -> None:
        """Logs a table."""
        table = self._trackio.Table(list(columns), [list(row) for row in rows])
        self.experiment.log({name: table}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Waits until everything is written."""
        if self._run is not None:
            self._run.finish()
            self._run = None
