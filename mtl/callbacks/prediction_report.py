"""Shows a model's predictions and its worst examples in the loggers."""

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from mtl.callbacks.prediction_plots import prediction_figure
from mtl.callbacks.typed_trainer import datamodule_of, first_process_loggers, method_of
from mtl.callbacks.worst_examples import worst_examples
from mtl.errors import UserError
from mtl.loggers import log_figure, log_table
from mtl.predictions import Predictions


class PredictionReport(Callback):
    """Shows predictions in the loggers.

    After training it shows the predictions of the best epoch for the validation splits; after a
    test, those for the test splits. `val_predictions/TASK` and `test_predictions/TASK` are plots
    of predictions; `val_worst_examples/TASK` and `test_worst_examples/TASK` are tables of the
    examples with the highest loss (TensorBoard: tabs Images and Text). A resumed run shows the best
    epoch since it was resumed.
    """

    def __init__(self) -> None:
        self._best: tuple[float, int, Mapping[str, Predictions]] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stores the predictions if this epoch is the best so far."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or not first_process_loggers(trainer):
            return
        method = method_of(pl_module)
        score = method.run_score()
        if self._best is None or not self._best[0] >= score:  # a score of NaN is never the best
            self._best = score, trainer.global_step, method.predictions

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the predictions of the best epoch."""
        if self._best:
            _, step, predictions = self._best
            _show(trainer, "val", step, predictions)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the predictions of the test."""
        _show(trainer, "test", trainer.global_step, method_of(pl_module).predictions)


def _show(trainer: Trainer, stage: str, step: int, predictions: Mapping[str, Predictions]) -> None:
    loggers = first_process_loggers(trainer)
    for name, split in predictions.items() if loggers else ():
        figure = prediction_figure(name, split)
        for logger in loggers:
            log_figure(logger, f"{stage}_predictions/{name}", figure, step)
        try:
            table = worst_examples(split, datamodule_of(trainer).source_split(name))
        except (UserError, OSError) as error:
            # The data may have changed since the run began. That must not end the run.
            rank_zero_warn(f"The worst examples of {name} are not logged: {error}")
            continue
        for logger in loggers:
            log_table(logger, f"{stage}_worst_examples/{name}", table, step)
