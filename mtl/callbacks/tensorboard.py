"""Arranges TensorBoard's charts."""

from lightning.pytorch import Callback, LightningModule, Trainer

from mtl.callbacks.conflicts import GradientConflicts
from mtl.callbacks.typed_trainer import callback_of, datamodule_of, tensorboard_loggers

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


class TensorBoardLayout(Callback):
    """Arranges TensorBoard's charts (tab Custom Scalars)."""

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
