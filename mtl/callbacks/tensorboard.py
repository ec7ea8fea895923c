"""TensorBoard for people: a page on which ten seconds tell how a run goes, and at the end what the model gets wrong."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from mtl.callbacks.conflicts import GradientConflicts
from mtl.callbacks.prediction_plots import prediction_figure
from mtl.callbacks.worst_examples import worst_examples
from mtl.data import UncertaintyDataModule
from mtl.errors import UserError
from mtl.methods.base import MultiTaskModule, Predictions

# Titles of charts, and which names each one shows. The same in all runs, so that TensorBoard lays the runs of a table over
# one another; a number before a section keeps its place.
LAYOUT = {
    "1. How it goes": {
        "score of each task, and the mean": r"^(score/mean|val_score/.*)$",
        "loss of each task, validation": r"^val_loss/",
        "loss of each task, training": r"^loss/(?!all$)",
        "loss that is trained on": r"^loss/all$",
        "learning rate": r"^lr-",
    },
    "2. What was sampled": {
        "share of each task": r"^sampling_share/",
        "rows of each task so far": r"^sampling/",
    },
    "3. What it costs": {
        "rows a second": r"^cost/examples_per_second$",
        "tokens a second": r"^cost/tokens_per_second$",
        "share of padding": r"^cost/padding_share$",
        "most memory so far, GiB": r"^cost/memory_gib$",
    },
}
# Where there is something to show.
UNCERTAINTY = {"mean uncertainty of each task's candidates": r"^uncertainty/"}
GRADIENTS = {
    "4. Gradients": {
        "share of pairs in conflict": r"^conflicts/share$",
        "cosine of each pair": r"^conflicts/cosine/",
        "norm of each task": r"^conflicts/norm/",
        "weight of each task": r"^conflicts/weight/",
    }
}


class TensorBoardReport(Callback):
    """Lays out TensorBoard's charts (tab Custom Scalars); shows the model's answers when the training or a test has ended.

    Of the best epoch's validation rows, and of test rows: for each split `val_confusion/TASK` or `test_confusion/TASK` among
    the images, a confusion matrix or, of a regression, predictions against targets; `val_mistakes/TASK` or
    `test_mistakes/TASK` among the texts, the rows of highest loss. A run that goes on shows the best epoch since then.
    """

    def __init__(self) -> None:
        self._best: tuple[float, int, Mapping[str, Predictions]] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the layout."""
        measured = any(isinstance(callback, GradientConflicts) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        uncertain = isinstance(trainer.datamodule, UncertaintyDataModule)  # type: ignore[attr-defined]
        charts = LAYOUT | (GRADIENTS if measured else {})
        charts = {
            section: found | (UNCERTAINTY if uncertain and section[0] == "2" else {})
            for section, found in charts.items()
        }
        layout = {
            section: {title: ["Multiline", [tags]] for title, tags in found.items()}
            for section, found in charts.items()
        }
        for writer in _writers(trainer):
            writer.add_custom_scalars(layout)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the answers of the best epoch."""
        assert isinstance(pl_module, MultiTaskModule)
        if (
            trainer.sanity_checking
            or trainer.state.fn != TrainerFn.FITTING
            or not _writers(trainer)
        ):
            return
        score = pl_module.suite_score()
        if (
            self._best is None or not self._best[0] >= score
        ):  # a score that is no number is never the best
            self._best = score, trainer.global_step, pl_module.predictions

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the answers of the best epoch."""
        if self._best:
            _, step, predictions = self._best
            _show(trainer, "val", step, predictions)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the answers to the test rows."""
        assert isinstance(pl_module, MultiTaskModule)
        _show(trainer, "test", trainer.global_step, pl_module.predictions)


def _writers(trainer: Trainer) -> list[Any]:
    """TensorBoard's writers, in the first process; none where another logger is used."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]


def _show(trainer: Trainer, stage: str, step: int, predictions: Mapping[str, Predictions]) -> None:
    for writer in _writers(trainer):
        for name, rows in predictions.items():
            writer.add_figure(f"{stage}_confusion/{name}", prediction_figure(name, rows), step)
            try:
                source = trainer.datamodule.source_of(name)  # type: ignore[attr-defined]
                writer.add_text(f"{stage}_mistakes/{name}", worst_examples(rows, source), step)
            except (
                UserError,
                OSError,
            ) as error:  # the rows were there when the run began; it shall not end for that
                rank_zero_warn(f"TensorBoard gets no table of mistakes: {error}")
