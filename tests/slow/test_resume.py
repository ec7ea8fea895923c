"""A run that is killed and resumed ends with the same weights, bit for bit.

Every scheme, balancer and regularizer of configs/ is tested.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.configs import REQUIRED_OPTIONS, names, options, supported

pytestmark = pytest.mark.slow

# Options that make an epoch short, or an interval shorter than an epoch.
SHORT = {
    "uncertainty": ["--data.share", "0.4"],
    "leave_one_out": ["--data.steps", "12"],
    "loss_proportional": ["--data.interval", "5"],
}
# Schemes that cannot resume to the same weights, with the reason: none.
EXCEPTIONS: dict[str, str] = {}
BY_SCORE = ("--data.by", "score", "--data.steps", "12")


def command(scheme: str, task_files: list[Path], backbone: str, out: str, *extra: str) -> list[str]:
    run = [sys.executable, "-m", "mtl", "fit", *options("sampling", scheme)]
    tasks = [f"--tasks+={file}" for file in task_files]
    data = ["--data.batch_size", "4", "--data.max_length", "16"]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    # The number of epochs comes last: it replaces the one of REQUIRED_OPTIONS.
    epochs = ["--save_every", "1", "--trainer.max_epochs", "4"]
    required = REQUIRED_OPTIONS.get(scheme, []) + SHORT.get(scheme, [])
    return [
        *(*run, *tasks, "--backbone", backbone, *data, *trainer, *required, *epochs),
        *("--out", out, *extra),
    ]


def checkpoint(out: str) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(f"{out}/checkpoints/last.ckpt", weights_only=True)
    return loaded


def batches_done(out: str) -> int:
    progress = checkpoint(out)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return int(progress["total"]["ready"])


def same(one: Any, two: Any) -> bool:
    """Equality to the last bit, also of what balancers, regularizers and schemes remember."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(
            same(value, two[name]) for name, value in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def kill_and_resume(
    scheme: str, steps: int, task_files: list[Path], backbone: str, *extra: str
) -> None:
    """Trains one run to the end and kills another once its checkpoint is at `steps`; compares."""
    uninterrupted = command(scheme, task_files, backbone, "whole", *extra)
    subprocess.run(uninterrupted, check=True, capture_output=True)
    process = subprocess.Popen(
        command(scheme, task_files, backbone, "cut", *extra),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None:
        if Path("cut/checkpoints/last.ckpt").exists() and batches_done("cut") >= steps:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL
    assert not Path("cut/metrics.json").exists()
    done = batches_done("cut")
    resumed = command(scheme, task_files, backbone, "cut", "--ckpt_path", "last", *extra)
    subprocess.run(resumed, check=True, capture_output=True)
    expected, actual = checkpoint("whole"), checkpoint("cut")
    schemes = [name for name in expected if name.endswith("DataModule")]
    for key in ("state_dict", *schemes):
        assert expected[key].keys() == actual[key].keys()
        for name, value in expected[key].items():
            assert same(value, actual[key][name]), f"{name}: killed after {done} batches"


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("scheme", names("sampling"))
def test_a_run_killed_in_the_middle_of_an_epoch_resumes_exactly(
    scheme: str, devices: int, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    if scheme in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[scheme])
    kill_and_resume(scheme, 17, task_files, backbone, "--trainer.devices", str(devices))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_with_several_labels_of_one_text_resumes_exactly(
    devices: int, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    Path("texts").mkdir()
    for split, count in (("train", 90), ("validation", 12), ("test", 12)):
        lines = ["text,topic,stars"]
        for row in range(count):
            topic = "" if row % 3 == 0 else ("good", "bad")[row % 2]  # a label may be missing
            lines.append(f"row {row},{topic},{row % 5}")
        Path(f"texts/{split}.csv").write_text("\n".join(lines) + "\n")
    Path("group.yaml").write_text(
        "source: {path: texts}\ntexts: [text]\ntasks:\n"
        "  topic: {label: topic, classes: [good, bad]}\n  stars: {label: stars, range: [0, 4]}\n"
    )
    files = [Path("group.yaml"), task_files[0]]
    kill_and_resume("mixed", 17, files, backbone, "--trainer.devices", str(devices))


@pytest.mark.parametrize("scheme", ["round_robin", "loss_proportional"])
@pytest.mark.parametrize(
    ("steps", "extra"),
    [
        (41, ("--trainer.accumulate_grad_batches", "2")),
        (50, ("--data.num_workers", "2")),
        (43, ("--data.num_workers", "2", "--trainer.accumulate_grad_batches", "3")),
    ],
)
def test_a_run_with_accumulation_or_workers_resumes_exactly(
    scheme: str,
    steps: int,
    extra: tuple[str, ...],
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
) -> None:
    kill_and_resume(scheme, steps, task_files, backbone, *extra)


@pytest.mark.parametrize("steps", [17, 23, 24, 25])
def test_sampling_by_score_resumes_exactly_also_around_a_validation(
    steps: int, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    kill_and_resume("loss_proportional", steps, task_files, backbone, *BY_SCORE)


def test_sampling_by_score_resumes_exactly_if_validation_runs_within_an_epoch(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    extra = (*BY_SCORE, "--trainer.val_check_interval", "5")
    kill_and_resume("loss_proportional", 20, task_files, backbone, *extra)


@pytest.mark.parametrize("method", ["mft_domain_only", "domain_adversarial"])
def test_methods_that_draw_random_numbers_in_a_step_resume_exactly(
    method: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    tasks = supported(method, task_files)
    kill_and_resume("sequential", 17, tasks, backbone, *options("methods", method))


@pytest.mark.parametrize("balancer", names("balancing"))
def test_a_run_with_a_balancer_resumes_exactly(
    balancer: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    kill_and_resume("mixed", 17, task_files, backbone, *options("balancing", balancer))


@pytest.mark.parametrize("balancer", [None, "pcgrad"])
@pytest.mark.parametrize("regularizer", names("regularizers"))
def test_a_run_with_a_regularizer_resumes_exactly(
    regularizer: str, balancer: str | None, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    extra = options("regularizers", regularizer)
    extra += options("balancing", balancer) if balancer else []
    kill_and_resume("mixed", 17, task_files, backbone, *extra)
