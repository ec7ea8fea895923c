"""Shows figures and tables in each logger: the one place that knows how a logger takes them.

A logger that is not registered here ignores them. `log_figure.register` and `log_table.register`
add a class of one's own.
"""

from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from mtl.loggers.text_table import TextTable
from mtl.loggers.trackio import TrackioLogger


@singledispatch
def log_figure(logger: Logger, name: str, figure: Any, step: int) -> None:
    """Shows a figure; call it in the first process only.

    Args:
        logger: Any logger.
        name: Where it is shown, such as `val_predictions/TASK`.
        figure: A matplotlib figure.
        step: Number of optimizer steps so far.
    """


@singledispatch
def log_table(logger: Logger, name: str, table: TextTable, step: int) -> None:
    """Shows a table; call it in the first process only.

    Args:
        logger: Any logger.
        name: Where it is shown, such as `val_worst_examples/TASK`.
        table: The table.
        step: Number of optimizer steps so far.
    """


@log_figure.register
def _(logger: TensorBoardLogger, name: str, figure: Any, step: int) -> None:
    logger.experiment.add_figure(name, figure, step)


@log_table.register
def _(logger: TensorBoardLogger, name: str, table: TextTable, step: int) -> None:
    logger.experiment.add_text(name, table.markdown(), step)


@log_figure.register
def _(logger: CSVLogger, name: str, figure: Any, step: int) -> None:
    figure.savefig(_file(logger, f"{name}.png"))


@log_table.register
def _(logger: CSVLogger, name: str, table: TextTable, step: int) -> None:
    _file(logger, f"{name}.csv").write_text(table.csv(), encoding="utf-8")


@log_figure.register
def _(logger: WandbLogger, name: str, figure: Any, step: int) -> None:
    logger.log_image(name, [pixels(figure)], step)


@log_table.register
def _(logger: WandbLogger, name: str, table: TextTable, step: int) -> None:
    logger.log_table(name, table.columns, [list(row) for row in table.rows], step=step)


@log_figure.register
def _(logger: MLFlowLogger, name: str, figure: Any, step: int) -> None:
    logger.experiment.log_figure(logger.run_id, figure, f"{name}.png")


@log_table.register
def _(logger: MLFlowLogger, name: str, table: TextTable, step: int) -> None:
    # The page of a run shows this format as a table.
    logger.experiment.log_text(logger.run_id, table.csv(), f"{name}.csv")


@log_figure.register
def _(logger: TrackioLogger, name: str, figure: Any, step: int) -> None:
    logger.log_image(name, pixels(figure), step)


@log_table.register
def _(logger: TrackioLogger, name: str, table: TextTable, step: int) -> None:
    logger.log_table(name, table.columns, table.rows, step)


def pixels(figure: Any) -> np.ndarray:
    """Draws a figure.

    Returns:
        Red, green and blue of each pixel as uint8, shape (height, width, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _file(logger: CSVLogger, name: str) -> Path:
    """A file in the logger's folder, whose folder exists."""
    file = Path(logger.log_dir) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
