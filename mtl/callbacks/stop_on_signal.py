"""Stops a training when a signal asks for it, with a checkpoint from which it can be resumed."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mtl.callbacks.typed_trainer import accumulating, validation_follows
from mtl.training.distributed import several_processes, sum_over_processes
from mtl.training.run_folder import LAST

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Progress of a validation that is run again: Lightning recognizes it as unfinished, at batch 0.
UNFINISHED_VALIDATION = {
    "total": {"ready": 1, "started": 1, "processed": 0, "completed": 0},
    "current": {"ready": 0, "started": 0, "processed": 0, "completed": 0},
    "is_last_batch": False,
}


class StopOnSignal(Callback):
    """After SIGINT (Ctrl-C) or SIGTERM, saves the last checkpoint; exits with 128 plus the signal.

    The checkpoint is saved after the current optimizer step, or after the current batch of a
    validation; a resumed run repeats that validation from its beginning. Before the first step the
    run stops at once, and so it does at the second signal: the last periodic checkpoint remains.
    Between the last step and the end of the command, signals are ignored.

    If several processes train, all stop after the same step, whichever gets the signal.

    Args:
        folder: Folder of the checkpoints.
        resume: The command that resumes the run.

    Attributes:
        training: Whether the training has started.
    """

    def __init__(self, folder: Path, resume: str) -> None:
        self.folder, self.resume = folder, resume
        self._signal = 0
        self._handled: Sequence[signal.Signals] = ()
        self.training = self._finished = self._validation_unfinished = self._several = False
        self._trainer: Trainer | None = None

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Context manager: handle the signals; for the whole training, including its setup."""
        in_main_thread = threading.current_thread() is threading.main_thread()  # else impossible
        numbers = SIGNALS if in_main_thread else ()
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        self._handled = numbers
        try:
            yield
        finally:
            for number, handler in before.items():
                # Lightning sends SIGTERM when a process that it started ends with an error status.
                ignored = self._several and self._signal and number == signal.SIGTERM
                signal.signal(number, signal.SIG_IGN if ignored else handler)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces Lightning's handler, which communicates while other processes compute."""
        for number in self._handled:
            signal.signal(number, self._on_signal)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, a signal waits for the end of the step."""
        self._trainer, self.training = trainer, True
        self._several = several_processes()
        self.on_sanity_check_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on signals are ignored: the results are written."""
        self._finished = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stops after a step. If a validation follows, stops during that."""
        if accumulating(trainer) or validation_follows(trainer):
            return
        if self._agreed_signal(trainer):
            self._stop(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stops during a validation."""
        if self.training and not accumulating(trainer) and self._agreed_signal(trainer):
            self._validation_unfinished = True
            self._stop(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks a validation as unfinished, so that the resumed run repeats it."""
        if self._validation_unfinished:
            loops = checkpoint["loops"]["fit_loop"]
            loops["epoch_loop.val_loop.batch_progress"] = UNFINISHED_VALIDATION

    def _agreed_signal(self, trainer: Trainer) -> int:
        """The signal that any process got. Every process must call it."""
        if self._several:
            signals = torch.zeros(max(SIGNALS) + 1, device=trainer.strategy.root_device)
            signals[self._signal] = 1
            got = sum_over_processes(signals).nonzero().flatten().tolist()
            self._signal = max(got)
        return self._signal

    def _stop(self, trainer: Trainer) -> NoReturn:
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        self._finished = True
        if trainer.is_global_zero:
            _report(
                f"stopped by {_name(self._signal)} after step {trainer.global_step}; "
                f"the checkpoint is saved.\nResume with:  {self.resume}"
            )
        raise SystemExit(128 + self._signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._finished:
            return
        if not self.training or self._signal or self._process_failed():
            raise SystemExit(128 + number)
        self._signal = number
        if self._trainer is None or self._trainer.is_global_zero:
            _report(f"{_name(number)}: saving a checkpoint after this step; again to stop at once")

    def _process_failed(self) -> bool:
        """Whether a process that trains with this one has ended, so that waiting for it is vain.

        Lightning then sends SIGTERM to the process that started it.
        """
        launcher: Any = self._trainer and self._trainer.strategy.launcher
        return any(process.poll() for process in getattr(launcher, "procs", ()))


def _name(number: int) -> str:
    return signal.Signals(number).name


def _report(message: str) -> None:
    sys.stderr.write(f"\nmtl: {message}\n")
    sys.stderr.flush()
