"""The gradient of an update is the mean over its batches, also in the last update of an epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from mtl.__main__ import main
from tests.contracts.configs import REQUIRED_OPTIONS, names, options

# Balancers whose state depends on the number of updates, which gradient accumulation changes.
STATEFUL = ("famo", "gradvac", "nash_mtl", "loss_proportional", "uncertainty")
FAST = ("round_robin", "mixed", "pcgrad")


def cases(folder: str) -> list[Any]:
    return [
        pytest.param(folder, name, marks=() if name in FAST else pytest.mark.slow)
        for name in names(folder)
        if name not in STATEFUL
    ]


class Gradients(Callback):
    """Stores the gradients of each update, and the learning rates."""

    updates: list[dict[str, torch.Tensor]] = []  # noqa: RUF012  (shared with the test)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.updates.append(
            {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        )


def updates(command: list[str], out: str, size: int) -> list[dict[str, torch.Tensor]]:
    Gradients.updates.clear()
    main([*command, "--out", out, "--trainer.accumulate_grad_batches", str(size)])
    return list(Gradients.updates)


@pytest.mark.parametrize(("folder", "name"), [*cases("sampling"), *cases("balancing")])
def test_every_update_is_the_mean_over_its_batches(
    folder: str, name: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    scheme = [] if folder == "sampling" else options("sampling", "mixed")
    command = ["fit", *[f"--tasks+={file}" for file in task_files], "--backbone", backbone]
    command += [*scheme, *options(folder, name), *REQUIRED_OPTIONS.get(name, [])]
    command += ["--data.batch_size", "8", "--data.max_length", "16", "--trainer.max_epochs", "2"]
    # Without learning, each batch has the same gradient in both runs.
    command += [
        "--model.lr",
        "1e-30",
        "--model.weight_decay",
        "0",
        "--trainer.gradient_clip_val",
        "0",
    ]
    command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    command += ["--trainer.limit_val_batches", "0", "--trainer.limit_train_batches", "6"]
    command += [f"--trainer.callbacks+={__name__}.{Gradients.__name__}"]
    single, windows = updates(command, "single", 1), updates(command, "windows", 4)
    batches = len(single) // 2  # in an epoch
    expected_windows = [
        single[start : min(start + 4, (epoch + 1) * batches)]
        for epoch in range(2)
        for start in range(epoch * batches, (epoch + 1) * batches, 4)
    ]
    assert len(windows) == len(expected_windows)
    assert len(expected_windows[-1]) < 4
    for actual, window in zip(windows, expected_windows, strict=True):
        for parameter in set().union(*window):
            gradients = [each[parameter] for each in window if parameter in each]
            mean = torch.stack(gradients).sum(0) / len(window)
            torch.testing.assert_close(actual[parameter], mean, atol=1e-6, rtol=1e-4)
