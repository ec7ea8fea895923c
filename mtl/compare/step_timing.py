"""The duration of a run, estimated from a few of its steps before anything is trained."""

import io
import multiprocessing
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from mtl.compare.local_executor import PRELOADED
from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.errors import UserError

# Measured steps, and those before them, which are slower because memory is allocated.
STEPS, WARM_UP = 8, 2


class StepTimer(Callback):
    """Measures the steps of a short training, and counts the batches of the whole one.

    Attributes:
        preparation: Seconds until the first training step.
        training: Seconds of each training step.
        validation: Seconds of each validation batch.
        batches: Number of training batches of an epoch.
        validation_batches: Number of batches of all validation splits.
    """

    def __init__(self) -> None:
        self.preparation = 0.0
        self.training: list[float] = []
        self.validation: list[float] = []
        self.batches = self.validation_batches = 0
        self._start = self._created = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Starts the clock of a training step."""
        self._start = time.perf_counter()
        self.preparation = self.preparation or self._start - self._created

    def on_train_batch_end(self, *_: Any) -> None:
        """Stops it."""
        self.training.append(time.perf_counter() - self._start)

    def on_validation_batch_start(self, *_: Any) -> None:
        """Starts the clock of a validation batch."""
        self._start = time.perf_counter()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Stops it."""
        self.validation.append(time.perf_counter() - self._start)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """Counts the batches."""
        self.batches = len(trainer.train_dataloader)
        loaders = trainer.val_dataloaders or []
        loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
        self.validation_batches = sum(map(len, loaders))

    def seconds(self, trainer: Any, tested: bool) -> float:
        """The duration of the whole training.

        Args:
            trainer: The options of its Trainer; the number of epochs or of steps is given.
            tested: Whether the run is tested. The test splits are taken to be as large as the
                validation splits.
        """
        batches = self.batches * (trainer.max_epochs if trainer.max_epochs is not None else 1)
        if trainer.max_steps >= 0:
            by_steps = trainer.max_steps * trainer.accumulate_grad_batches
            batches = by_steps if trainer.max_epochs in (None, -1) else min(batches, by_steps)
        evaluations = _validations(trainer, batches, self.batches) + int(tested)
        evaluation = self.validation_batches * _typical(self.validation)
        return self.preparation + batches * _typical(self.training) + evaluations * evaluation


def _validations(trainer: Any, batches: int, per_epoch: int) -> float:
    """The number of validations during a training of that many batches."""
    interval = trainer.val_check_interval
    if isinstance(interval, int):
        return batches // interval
    epochs = batches / per_epoch / (trainer.check_val_every_n_epoch or 1)
    return epochs / (1.0 if interval is None else interval)


def _typical(seconds: Sequence[float]) -> float:
    return statistics.fmean(seconds[WARM_UP:] or seconds) if seconds else 0.0


def estimate_runs(
    plan: Plan, root: Path, runs: Sequence[RunSpec], at_once: int, threads: int
) -> dict[RunSpec, float]:
    """The seconds of the training and test of each run, from a few steps of it; nothing is kept.

    Rows without training and rows that start from other runs are left out. Each run is measured in
    a process of its own, as it is trained later, and as many at a time.

    Args:
        plan: The plan of the runs.
        root: Folder of the runs.
        runs: The runs.
        at_once: Number of runs at a time.
        threads: Number of threads of each run.
    """
    rows, index = plan.experiment.rows, RunIndex(plan, root)
    chosen = [run for run in runs if rows[run.row].command == "fit" and not rows[run.row].uses]
    arguments = [index.name_and_arguments(run, {})[1] for run in chosen]
    tested = [rows[run.row].tested != "none" for run in chosen]
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    measure, found = partial(measured_seconds, threads=threads), dict[RunSpec, float]()
    with ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool:
        for run, seconds in zip(chosen, pool.map(measure, arguments, tested), strict=True):
            found[run] = seconds
            print(
                f"measuring {STEPS} steps of each row: {len(found)}/{len(chosen)}",
                file=sys.stderr,
                flush=True,
            )
    return found


def measured_seconds(arguments: list[str], tested: bool, threads: int) -> float:
    """The estimated seconds of a training, from a few of its steps in this process.

    Args:
        arguments: The options of `mtl fit`.
        tested: Whether the run is tested.
        threads: Number of threads that it may use.

    Raises:
        UserError: If the training fails.
    """
    import torch

    from mtl.cli.lightning import CommandLine, command_line
    from mtl.compare.jobs import QUIET
    from mtl.compare.redirection import redirect_output
    from mtl.data.data_warnings import without_data_warnings
    from mtl.training.trainer import default_epochs

    torch.set_num_threads(threads)
    timer = StepTimer()
    options: list[Any] = []

    class ShortTraining(CommandLine):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(timer)  # type: ignore[attr-defined]
            options.append(self.config["fit"].trainer)
            return trainer

    log = io.StringIO()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_output(log),
            without_data_warnings(),
        ):
            short = ["--trainer.fast_dev_run", str(STEPS), "--out", str(Path(folder) / "run")]
            command_line(ShortTraining, ["fit", *arguments, *QUIET, *short])
    except Exception as error:
        why = log.getvalue().strip().splitlines()[-1:] or [str(error)]
        raise UserError(f"mtl fit {shlex.join(arguments)}: {why[0]}") from error
    trainer = options[0]
    trainer.max_epochs = default_epochs(trainer.max_epochs, trainer.max_steps, trainer.max_time)
    return timer.seconds(trainer, tested)
