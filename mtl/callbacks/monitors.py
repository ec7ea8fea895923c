"""Refuses callbacks that monitor a value which no training logs, before the training starts."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mtl.callbacks.typed_trainer import datamodule_of, method_of
from mtl.data import MultiTaskDataModule
from mtl.errors import UserError, did_you_mean, list_words
from mtl.methods import MultiTaskModule

# Their classes log nothing but what is listed here, and the shares and costs of a step.
KNOWN_PACKAGES = ("mtl.", "lightning.", "torch.", "torchjd.")


class CheckMonitors(Callback):
    """Checks what `EarlyStopping`, `ModelCheckpoint` and the like monitor.

    Lightning looks for the value after the first validation.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the monitors.

        Raises:
            UserError: If a callback monitors a value that is certainly not logged.
        """
        callbacks: list[Any] = getattr(trainer, "callbacks", [])
        method, data = method_of(pl_module), datamodule_of(trainer)
        known = logged_names(method, data)
        sections = {name.partition("/")[0] for name in known}
        own = any(_is_own(each) for each in (method, method.balancer, data, *callbacks))
        for callback in callbacks:
            name = getattr(callback, "monitor", None)
            if not isinstance(name, str) or name in known or name.startswith("lr-"):
                continue
            section, slash, _ = name.partition("/")
            if section in sections if slash else not own:
                shown = [each for each in known if each.startswith(("score/", "val_score/"))]
                raise UserError(
                    f"--trainer.callbacks {type(callback).__name__}: monitor {name!r} is not "
                    f"logged.{did_you_mean(name, known)} Give {list_words(shown, 'or')}, or "
                    "val/TASK/METRIC"
                )


def logged_names(method: MultiTaskModule, data: MultiTaskDataModule) -> list[str]:
    """The names of losses and scores that a training logs.

    Args:
        method: The method.
        data: Its data, after `setup("fit")`.
    """
    names = ["score/mean"]
    for evaluation in data.evaluations("fit"):
        names += [f"val_score/{evaluation.name}", f"val_loss/{evaluation.name}"]
        metrics = method.tasks[evaluation.task].metrics
        names += [f"val/{evaluation.name}/{metric}" for metric in metrics]
    return [*names, "loss/all", *(f"loss/{task.name}" for task in method.tasks)]


def _is_own(value: object) -> bool:
    """Whether an object's class is the user's own, which may log under any name."""
    return not type(value).__module__.startswith(KNOWN_PACKAGES)
