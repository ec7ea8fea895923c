"""Evaluates several weights of one model on the validation splits, with one Trainer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer

from mtl.callbacks import MetricsRecorder
from mtl.callbacks.run_description import current_scores, describe_run
from mtl.cli.lightning import CommandLine
from mtl.data.data_warnings import without_data_warnings
from mtl.training.run_folder import CONFIG, write_atomic


class Evaluation(CommandLine):
    """`mtl validate` that waits for `scores` to be called, and writes no results on its own."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Creates a Trainer that does not record the scores of every evaluation."""
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [each for each in callbacks if not isinstance(each, MetricsRecorder)]
        trainer.loggers = []
        return trainer

    def validate(self, **kwargs: Any) -> None:
        """Does nothing."""

    def scores(self) -> dict[str, Any]:
        """Evaluates the model's present weights; returns its scores, as in `metrics.json`."""
        self.trainer.validate(self.model, self.datamodule, verbose=False)
        return current_scores(self.model)

    def description(self) -> dict[str, Any]:
        """What `metrics.json` says of the run."""
        return describe_run(self.trainer, self.model)

    def write_config(self) -> None:
        """Writes the resolved configuration to the run's folder."""
        parser = self._subcommand_parsers["validate"]
        text = parser.dump(self.config["validate"], skip_none=False)
        write_atomic(self.out / CONFIG, text)


@contextmanager
def without_messages() -> Iterator[None]:
    """Context manager: what one evaluation has printed about the data is not printed again."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with without_data_warnings():
            yield
    finally:
        logger.setLevel(level)
