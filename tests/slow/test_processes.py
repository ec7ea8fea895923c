"""Two processes find what one finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import mtl.methods
from mtl.tasks import Task
from tests.contracts.test_every_config import TOLD, files

pytestmark = pytest.mark.slow

CONFIGS = {path.stem: path for path in files("sampling")}
METHODS = {path.stem: path for path in files("methods")}

# Keeps the gradients of the first step, as they are when the optimiser takes them: after DDP's reduction.
SPY = """
import torch
from lightning.pytorch import Callback

class Spy(Callback):
    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == 0 and trainer.is_global_zero:
            torch.save({n: p.grad for n, p in module.named_parameters() if p.grad is not None}, "gradients.pt")
"""


def run(
    scheme: str,
    method: str,
    folder: Path,
    task_files: list[Path],
    backbone: str,
    devices: int,
    *more: str,
) -> None:
    folder.mkdir()
    (folder / "spy.py").write_text(SPY)
    suite = {"tasks": [str(file) for file in task_files]}
    (folder / "suite.yaml").write_text(
        yaml.safe_dump(suite | {"trainer": {"callbacks": [{"class_path": "spy.Spy"}]}})
    )
    words = [
        sys.executable,
        "-m",
        "mtl",
        "fit",
        "-c",
        "suite.yaml",
        "-c",
        str(CONFIGS[scheme]),
        *TOLD.get(scheme, []),
    ]
    words += ["-c", str(METHODS[method]), *more]
    words += [
        "--backbone",
        backbone,
        "--out",
        "run",
        "--data.batch_size",
        "8",
        "--data.max_length",
        "16",
    ]
    words += [
        "--model.dropout",
        "0",
        "--trainer.max_epochs",
        "1",
        "--trainer.gradient_clip_val",
        "0",
    ]
    words += [
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        str(devices),
        "--trainer.enable_progress_bar",
        "false",
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), "."])
    }
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("scheme", "method"),
    [(scheme, "multi_head") for scheme in ("round_robin", "mixed", "sequential", "leave_one_out")]
    + [("sequential", method) for method in ("separate", "ca_mtl", "domain_adversarial")]
    + [
        (f"mixed, {rule}", "multi_head")
        for rule in ("pcgrad", "gradvac", "upgrad", "uncertainty_weighting", "famo")
    ]
    + [("sequential, pcgrad", "multi_head")],
)
def test_two_processes_equal_one(
    scheme: str, method: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    # Without dropout, whose draws differ by process, the two are the same computation.
    still = in_tmp / "still"
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(
        backbone, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    AutoModel.from_pretrained(backbone, config=config).save_pretrained(still)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(still)
    scheme, _, balancing = scheme.partition(", ")
    if not getattr(
        mtl.methods, yaml.safe_load(METHODS[method].read_text())["model"]["class_path"]
    ).takes_regression:
        task_files = [file for file in task_files if not Task.read(file).regression]
    more = (
        ["-c", str(Path(__file__).parents[2] / f"configs/balancing/{balancing}.yaml")]
        if balancing
        else []
    )
    for devices in (1, 2):
        run(scheme, method, in_tmp / str(devices), task_files, str(still), devices, *more)
    one, two = (
        torch.load(in_tmp / name / "gradients.pt", weights_only=True) for name in ("1", "2")
    )
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, atol=1e-5, rtol=1e-5)
    absent = [name for name in two if name not in one and two[name].abs().max() > 0]
    assert absent == []
    found = [
        json.loads((in_tmp / name / "run/metrics.json").read_text())["validation"]["tasks"]
        for name in ("1", "2")
    ]
    for task, result in found[0].items():
        assert found[1][task]["rows"] == result["rows"]
        assert found[1][task]["loss"] == pytest.approx(result["loss"], abs=1e-5)
        assert found[1][task]["metrics"] == pytest.approx(result["metrics"], abs=1e-4)
