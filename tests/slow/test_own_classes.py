"""A user's own method, scheme, balancer and regularizer: in two processes, in a comparison."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.slow.test_processes import compare, without_dropout

pytestmark = pytest.mark.slow

__all__ = ["without_dropout"]

OWN = """
import torch
from torch import nn

from mtl.balancing import Balancer
from mtl.data import MultiTaskDataModule
from mtl.methods.multi_head import MultiHead
from mtl.regularizers import SMART
from mtl.regularizers.base import Regularizer


class EveryTask:
    def __init__(self, streams):
        self.streams, self.steps = streams, max(stream.batches for stream in streams)

    def __call__(self, epoch, step):
        return [stream(epoch * self.steps + step) for stream in self.streams]


class OwnData(MultiTaskDataModule):
    tasks_per_batch = "all"

    def order(self, streams):
        return EveryTask(streams)


class OwnMethod(MultiHead):
    def __init__(self, start: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = nn.Parameter(torch.tensor(start))

    def forward(self, batch):
        return {task: logits / self.temperature for task, logits in super().forward(batch).items()}


class OwnBalancer(Balancer):
    needs = "all"

    def combine(self, losses, examples):
        return torch.stack(list(losses.values())).mean()


class OwnRegularizer(Regularizer):
    def forward(self, method, batch, logits):
        return {
            segment.task: logits[segment.task][: len(segment.labels)].square().mean(1)
            for segment in batch.segments
        }


class FixedNoise(SMART):
    '''Initial noise that does not depend on the process.'''

    def _worst_noise(self, method, batch, logits):
        draw = torch.randn_like
        torch.randn_like = lambda output: torch.cos(
            torch.arange(output[0].numel(), dtype=output.dtype).view_as(output[0])
        ).expand_as(output)
        try:
            return super()._worst_noise(method, batch, logits)
        finally:
            torch.randn_like = draw
"""


def options(*, regularizer: str = "own.OwnRegularizer") -> list[str]:
    found = ["--model", "own.OwnMethod", "--model.start", "0.5", "--data", "own.OwnData"]
    return [*found, "--model.balancer", "own.OwnBalancer", "--model.regularizer", regularizer]


@pytest.fixture
def own_on_path(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `own.py` importable in this process's children."""
    folder = in_tmp / "own"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.mark.parametrize("regularizer", ["own.OwnRegularizer", "own.FixedNoise"])
def test_two_processes_compute_the_same_as_one_with_own_classes(
    regularizer: str,
    own_on_path: None,
    task_files: list[Path],
    without_dropout: str,
    in_tmp: Path,
) -> None:
    # The options that come last replace the scheme and the method before them.
    extra = options(regularizer=regularizer)
    compare("mixed", "multi_head", task_files, without_dropout, in_tmp, *extra)


def test_a_comparison_trains_own_classes(
    own_on_path: None, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    own: dict[str, Any] = {
        "model": {
            "class_path": "own.OwnMethod",
            "init_args": {
                "start": 0.5,
                "balancer": {"class_path": "own.OwnBalancer"},
                "regularizer": {"class_path": "own.OwnRegularizer"},
            },
        },
        "data": {"class_path": "own.OwnData"},
    }
    (in_tmp / "own.yaml").write_text(yaml.safe_dump(own))
    definition = {
        "question": "Is the own method better?",
        "tasks": [str(file) for file in task_files[:2]],
        "baseline": "plain",
        "budget": "the same examples",
        "rows": {
            "plain": {"of": "task", "configs": ["methods/multi_head"]},
            "own": {"configs": ["own"]},
        },
        "sizes": {
            "mini": {
                "about": "tiny",
                "backbone": backbone,
                "options": {"trainer.max_epochs": 1, "data.max_length": 16},
                "seeds": [1],
            }
        },
    }
    (in_tmp / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    command = [sys.executable, "-m", "mtl", "compare", "table.yaml", "--jobs", "1", "--root", "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    configs = [path.read_text() for path in Path("out").glob("*/config.yaml")]
    assert sum("own.OwnBalancer" in text and "own.OwnData" in text for text in configs) == 1
    metrics = [json.loads(path.read_text()) for path in Path("out").glob("*/metrics.json")]
    tested = sorted(sorted(found["test"]["tasks"]) for found in metrics)
    assert tested == [["mood"], ["mood", "same"], ["same"]]
