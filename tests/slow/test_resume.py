"""A run that is killed goes on to the very same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.test_every_config import TOLD, files

pytestmark = pytest.mark.slow

CONFIGS = {path.stem: path for path in files("sampling")}
# Steps an epoch where a scheme's own number would take long.
SHORT = {"uncertainty": ["--data.share", "0.4"], "leave_one_out": ["--data.steps", "12"]}


def command(scheme: str, task_files: list[Path], backbone: str, out: str, *more: str) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "mtl",
        "fit",
        "-c",
        str(CONFIGS[scheme]),
        *[f"--tasks+={file}" for file in task_files],
    ]
    words += [
        "--backbone",
        backbone,
        "--data.batch_size",
        "4",
        "--data.max_length",
        "16",
        "--trainer.max_epochs",
        "4",
    ]
    words += [
        "--save_every",
        "1",
        "--trainer.accelerator",
        "cpu",
        "--trainer.enable_progress_bar",
        "false",
        "--out",
        out,
    ]
    told = [
        word for word in TOLD.get(scheme, []) if scheme != "annealed"
    ]  # its number of epochs is given above
    return [*words, *told, *SHORT.get(scheme, []), *more]


def weights(out: str) -> dict[str, torch.Tensor]:
    kept = torch.load(f"{out}/checkpoints/last.ckpt", weights_only=True)
    return kept["state_dict"]


def reached(checkpoint: Path) -> int:
    kept = torch.load(checkpoint, weights_only=True)
    return int(kept["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"])


def same(one: Any, two: Any) -> bool:
    """Equality to the last bit, within what balancers and regularisers remember too."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(
            same(value, two[name]) for name, value in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def killed_and_resumed(
    scheme: str, steps: int, task_files: list[Path], backbone: str, *more: str
) -> None:
    """Trains one run through and another that is killed once its checkpoint is at `steps`, and compares."""
    subprocess.run(
        command(scheme, task_files, backbone, "whole", *more), check=True, capture_output=True
    )
    words = command(scheme, task_files, backbone, "cut", *more)
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    last = Path("cut/checkpoints/last.ckpt")
    while process.poll() is None:
        if last.exists() and reached(last) >= steps:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL
    assert not Path("cut/metrics.json").exists()
    done = reached(last)
    resumed = command(scheme, task_files, backbone, "cut", "--ckpt_path", "last", *more)
    subprocess.run(resumed, check=True, capture_output=True)
    expected, found = weights("whole"), weights("cut")
    assert expected.keys() == found.keys()
    assert all(same(expected[name], found[name]) for name in expected), (
        f"killed after {done} batches"
    )


@pytest.mark.parametrize(
    ("steps", "more"),
    [(41, ("--trainer.accumulate_grad_batches", "2")), (50, ("--data.num_workers", "2"))],
)
def test_with_accumulation_and_with_workers(
    steps: int, more: tuple[str, ...], task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    killed_and_resumed("round_robin", steps, task_files, backbone, *more)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("scheme", sorted(CONFIGS))
def test_killed_in_the_middle_of_an_epoch(
    scheme: str, devices: int, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    killed_and_resumed(scheme, 17, task_files, backbone, "--trainer.devices", str(devices))


@pytest.mark.parametrize("method", ["mft_domain_only", "domain_adversarial"])
def test_what_methods_draw_in_a_step_is_drawn_again(
    method: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    configs = {path.stem: path for path in files("methods")}
    killed_and_resumed("sequential", 17, task_files[:2], backbone, "-c", str(configs[method]))


@pytest.mark.parametrize(
    "rule",
    ["gradvac", "nash_mtl", "dwa", "famo", "uncertainty_weighting", "smart", "smart, pcgrad"],
)
def test_what_balancers_and_regularizers_remember_is_not_lost(
    rule: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    configs = {
        path.stem: path for folder in ("balancing", "regularizers") for path in files(folder)
    }
    more = [word for name in rule.split(", ") for word in ("-c", str(configs[name]))]
    killed_and_resumed("mixed", 17, task_files, backbone, *more)
