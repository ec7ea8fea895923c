"""Arranges TensorBoard's charts, and shows a model's predictions and its worst examples."""

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from mtl.callbacks.conflicts import GradientConflicts
from mtl.callbacks.prediction_plots import prediction_figure
from mtl.callbacks.typed_trainer import (
    callback_of,
    datamodule_of,
    method_of,
    tensorboard_loggers,
)
from mtl.callbacks.worst_examples import worst_examples
from mtl.errors import UserError
from mtl.predictions import Predictions

# Titles of charts, with a regular expression for the tags that each shows. They are equal in all
# runs, so that TensorBoard overlays the runs of a table. Sections are sorted by their number.
SAMPLING = "2. Sampling"
LAYOUT = {
    "1. Training": {
        "score of each task, and their mean": r"^(score/mean|val_score/.*)$",
        "validation loss of each task": r"^val_loss/",
        "training loss of each task": r"^loss/(?!all$)",
        "combined training loss": r"^loss/all$",
        "learning rate": r"^lr-",
    },
    SAMPLING: {
        "share of each task": r"^sampling_share/",
        "examples of each task so far": r"^sampling/",
    },
    "3. Cost": {
        "examples per second": r"^cost/examples_per_second$",
        "tokens per second": r"^cost/tokens_per_second$",
        "share of padding": r"^cost/padding_share$",
        "peak memory so far, GiB": r"^cost/memory_gib$",
    },
}
# Only in runs that log these tags.
GRADIENTS = {
    "4. Gradients": {
        "share of conflicting pairs": r"^conflicts/share$",
        "cosine of each pair": r"^conflicts/cosine/",
        "norm of each task": r"^conflicts/norm/",
        "weight of each task": r"^conflicts/weight/",
    }
}


class TensorBoardReport(Callback):
    """Arranges TensorBoard's charts (tab Custom Scalars), and shows predictions.

    After training it shows the predictions of the best epoch for the validation splits; after a
    test, those for the test splits. `val_predictions/TASK` and `test_predictions/TASK` (tab Images)
    are plots of predictions. `val_worst_examples/TASK` and `test_worst_examples/TASK` (tab Text)
    list the examples with the highest loss. A resumed run shows the best epoch since it was
    resumed.
    """

    def __init__(self) -> None:
        self._best: tuple[float, int, Mapping[str, Predictions]] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the layout."""
        sections = LAYOUT | (GRADIENTS if callback_of(trainer, GradientConflicts) else {})
        sections[SAMPLING] = sections[SAMPLING] | dict(datamodule_of(trainer).charts)
        layout = {
            section: {title: ["Multiline", [tags]] for title, tags in charts.items()}
            for section, charts in sections.items()
        }
        for logger in tensorboard_loggers(trainer):
            logger.experiment.add_custom_scalars(layout)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stores the predictions if this epoch is the best so far."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or not tensorboard_loggers(trainer):
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
    for logger in tensorboard_loggers(trainer):
        for name, split in predictions.items():
            figure = prediction_figure(name, split)
            logger.experiment.add_figure(f"{stage}_predictions/{name}", figure, step)
            try:
                source = datamodule_of(trainer).source_split(name)
                table = worst_examples(split, source)
                logger.experiment.add_text(f"{stage}_worst_examples/{name}", table, step)
            except (UserError, OSError) as error:
                # The data may have changed since the run began. That must not end the run.
                rank_zero_warn(f"TensorBoard does not show the worst examples of {name}: {error}")
