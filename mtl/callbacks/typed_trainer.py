"""Typed access to what Lightning leaves untyped."""

from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from mtl.data import MultiTaskDataModule
from mtl.methods.base import MultiTaskModule

CallbackT = TypeVar("CallbackT", bound=Callback)


def datamodule_of(trainer: Any) -> MultiTaskDataModule:
    """The data module that a trainer uses."""
    return trainer.datamodule


def method_of(module: LightningModule) -> MultiTaskModule:
    """The method that a trainer trains."""
    assert isinstance(module, MultiTaskModule)
    return module


def callback_of(trainer: Any, cls: type[CallbackT]) -> CallbackT | None:
    """The trainer's first callback of a class; None if it has none."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, cls)), None)


def is_dry_run(trainer: Any) -> bool:
    """Whether the trainer runs a few batches only (`fast_dev_run`)."""
    return bool(trainer.fast_dev_run)


def accumulating(trainer: Trainer) -> bool:
    """Whether the last batch is not the last one of its window of gradient accumulation."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def validation_follows(trainer: Trainer) -> bool:
    """Whether a validation follows the last training batch."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher)


def log_interval(trainer: Any) -> int:
    """Number of steps from one log to the next."""
    return trainer.log_every_n_steps


def first_process_loggers(trainer: Trainer) -> list[Logger]:
    """The loggers in the first process; empty in others, which log nothing."""
    return list(trainer.loggers) if trainer.is_global_zero else []


def tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard loggers, in the first process; empty in others, or with another logger."""
    loggers = first_process_loggers(trainer)
    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
