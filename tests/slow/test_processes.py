"""Two processes compute the same as one.

Every scheme and every balancer of configs/ is tested.
"""

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tests.contracts.configs import REQUIRED_OPTIONS, names, options, supported
from tests.label_group import write_label_group

pytestmark = pytest.mark.slow

# Schemes for which two processes cannot equal one, with the reason.
EXCEPTIONS = {
    "uncertainty": "each process scores its own candidates and selects its share of them",
}
# An interval shorter than the epoch, so that draws depend on losses of all processes.
SHORT = {"loss_proportional": ["--data.interval", "5"]}
METHODS = ("separate", "ca_mtl", "domain_adversarial")

# Saves the gradients of the first step, after DDP has averaged them, and each step's examples.
SPY = """
import json
import torch
from lightning.pytorch import Callback

class Spy(Callback):
    def __init__(self):
        self.drawn = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.drawn.append({s.task: s.ids.tolist() for s in batch.segments})

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == 0 and trainer.is_global_zero:
            gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
            torch.save(gradients, "gradients.pt")

    def on_train_end(self, trainer, module):
        with open(f"drawn-{trainer.global_rank}.json", "w") as file:
            json.dump(self.drawn, file)
"""


def run(
    scheme: str,
    method: str,
    folder: Path,
    task_files: list[Path],
    backbone: str,
    devices: int,
    *extra: str,
) -> None:
    folder.mkdir()
    (folder / "spy.py").write_text(SPY)
    suite = {"tasks": [str(file) for file in task_files]}
    spy = {"trainer": {"callbacks": [{"class_path": "spy.Spy"}]}}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite | spy))
    command = [sys.executable, "-m", "mtl", "fit", "-c", "suite.yaml"]
    command += [*options("sampling", scheme), *REQUIRED_OPTIONS.get(scheme, [])]
    command += [*SHORT.get(scheme, []), *options("methods", method), *extra]
    command += ["--backbone", backbone, "--out", "run"]
    command += ["--data.batch_size", "8", "--data.max_length", "16", "--model.dropout", "0"]
    command += ["--trainer.max_epochs", "1", "--trainer.gradient_clip_val", "0"]
    command += ["--trainer.accelerator", "cpu", "--trainer.devices", str(devices)]
    command += ["--trainer.enable_progress_bar", "false"]
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(Path(__file__).parents[2]), ".", inherited])
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def without_dropout(backbone: str, in_tmp: Path) -> str:
    """The backbone without dropout, whose random numbers differ by process."""
    folder = in_tmp / "without_dropout"
    config = AutoConfig.from_pretrained(
        backbone, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    AutoModel.from_pretrained(backbone, config=config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
    return str(folder)


def compare(
    scheme: str, method: str, task_files: list[Path], backbone: str, folder: Path, *extra: str
) -> None:
    """Trains in one process and in two; compares draws, gradients, losses and metrics."""
    tasks = supported(method, task_files)
    for devices in (1, 2):
        run(scheme, method, folder / str(devices), tasks, backbone, devices, *extra)
    assert drawn(folder / "1", 1) == drawn(folder / "2", 2)
    one, two = (torch.load(folder / name / "gradients.pt", weights_only=True) for name in "12")
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, atol=1e-5, rtol=1e-5)
    unexpected = [name for name in two if name not in one and two[name].abs().max() > 0]
    assert unexpected == []
    first, second = (
        json.loads((folder / name / "run/metrics.json").read_text())["validation"] for name in "12"
    )
    assert second.get("all_correct") == first.get("all_correct")
    expected, actual = first["tasks"], second["tasks"]
    for task, result in expected.items():
        assert actual[task]["examples"] == result["examples"]
        assert actual[task]["loss"] == pytest.approx(result["loss"], abs=1e-5)
        assert actual[task]["metrics"] == pytest.approx(result["metrics"], abs=1e-4)


def drawn(folder: Path, processes: int) -> list[dict[str, list[int]]]:
    """For each step the examples of each task, over all processes."""
    shares = [json.loads((folder / f"drawn-{rank}.json").read_text()) for rank in range(processes)]
    return [
        {task: sorted(chain.from_iterable(share[task] for share in step)) for task in step[0]}
        for step in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize("scheme", names("sampling"))
def test_two_processes_draw_and_compute_the_same_as_one_with_every_scheme(
    scheme: str, task_files: list[Path], without_dropout: str, in_tmp: Path
) -> None:
    if scheme in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[scheme])
    compare(scheme, "multi_head", task_files, without_dropout, in_tmp)


@pytest.mark.parametrize("balancer", names("balancing"))
def test_two_processes_compute_the_same_as_one_with_every_balancer(
    balancer: str, task_files: list[Path], without_dropout: str, in_tmp: Path
) -> None:
    extra = options("balancing", balancer)
    compare("mixed", "multi_head", task_files, without_dropout, in_tmp, *extra)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_compute_the_same_as_one_with_other_methods(
    method: str, task_files: list[Path], without_dropout: str, in_tmp: Path
) -> None:
    compare("sequential", method, task_files, without_dropout, in_tmp)


def test_two_processes_compute_the_same_as_one_with_surgery_of_some_tasks(
    task_files: list[Path], without_dropout: str, in_tmp: Path
) -> None:
    extra = options("balancing", "pcgrad")
    compare("sequential", "multi_head", task_files, without_dropout, in_tmp, *extra)


@pytest.mark.parametrize(("scheme", "method"), [("mixed", "multi_head"), ("round_robin", "ca_mtl")])
def test_two_processes_compute_the_same_as_one_with_a_label_group(
    scheme: str, method: str, task_files: list[Path], without_dropout: str, in_tmp: Path
) -> None:
    files = [write_label_group(in_tmp), *task_files[:1]]
    compare(scheme, method, files, without_dropout, in_tmp)
    metrics = json.loads((in_tmp / "2/run/metrics.json").read_text())
    assert list(metrics["validation"]["all_correct"]) == ["topic + tags + entities"]
