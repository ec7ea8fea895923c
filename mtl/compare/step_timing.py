"""The duration of a run, estimated from a few of its steps before anything is trained."""

import io
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

from mtl.compare.jobs import QUIET, Job
from mtl.compare.local_executor import end_with_parent, run_context, threads_per_run
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
    plan: Plan, root: Path, runs: Sequence[RunSpec], at_once: int
) -> dict[RunSpec, float]:
    """The seconds of the training and test of each run, from a few steps of it; nothing is kept.

    The result lacks the runs of rows without training, and of rows that start from other runs. A
    run is measured as it is trained later: in its own process, beside as many others.

    Args:
        plan: The plan of the runs.
        root: Folder of the runs.
        runs: The runs.
        at_once: Number of runs at a time.
    """
    rows, index = plan.experiment.rows, RunIndex(plan, root)
    chosen = [run for run in runs if rows[run.row].command == "fit" and not rows[run.row].uses]
    measure = partial(measured_seconds, threads=threads_per_run(at_once))
    found: dict[RunSpec, float] = {}
    with ProcessPoolExecutor(
        at_once, run_context(), initializer=end_with_parent, max_tasks_per_child=1
    ) as pool:
        times = pool.map(measure, [index.job(run) for run in chosen])
        for run, seconds in zip(chosen, times, strict=True):
            found[run] = seconds
            print(
                f"measuring {STEPS} steps of each row: {len(found)}/{len(chosen)}",
                file=sys.stderr,
                flush=True,
            )
    return found


def measured_seconds(job: Job, threads: int) -> float:
    """The estimated seconds of a job's training and test, from a few steps in this process.

    Args:
        job: The job.
        threads: Number of threads that it may use.

    Raises:
        UserError: If the training fails.
    """
    import torch

    from mtl.cli.lightning import CommandLine, command_line
    from mtl.compare.redirection import redirect_output
    from mtl.data.data_warnings import without_data_warnings
    from mtl.training.trainer_checks import EPOCHS, has_default_length

    torch.set_num_threads(threads)
    timer, arguments = StepTimer(), ["fit", *(job.fit or ())]

    class ShortTraining(CommandLine):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(timer)  # type: ignore[attr-defined]
            return trainer

    log = io.StringIO()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_output(log),
            without_data_warnings(),
        ):
            out = str(Path(folder) / "run")
            short = ["--trainer.fast_dev_run", str(STEPS), *QUIET, "--out", out]
            trainer = command_line(ShortTraining, [*arguments, *short], "fit").config["fit"].trainer
    except Exception as error:
        why = log.getvalue().strip().splitlines()[-1:] or [str(error)]
        raise UserError(f"mtl {shlex.join(arguments)}: {why[0]}") from error
    if has_default_length(vars(trainer)):
        trainer.max_epochs = EPOCHS
    return timer.seconds(trainer, job.tested)
