"""Lightning's callback that averages weights: the averaged method computes with the average."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from mtl.data import RoundRobinDataModule
from mtl.data.encoding import Prompted
from mtl.methods import MultiTaskModule, PromptBasedFineTuning
from mtl.tasks import Task
from tests.methods.test_deep_copy import assert_equal, build, every_config, outputs
from tests.methods.training import fit

DECAY = 0.75


class Recorder(Callback):
    """Copies of the parameters after each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.steps.append(parameters(pl_module))


def parameters(method: MultiTaskModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in method.named_parameters()}


@pytest.fixture
def data(in_tmp: Path, backbone: str) -> RoundRobinDataModule:
    """Examples of the tasks of `build`, two batches of each task."""
    tasks = []
    for name in ("mood", "tone", "kind"):
        (in_tmp / name).mkdir()
        rows = [
            f"the {word} cat was {word},{number % 2}" for number, word in enumerate(8 * ["good"])
        ]
        for split in ("train", "validation"):
            text = "\n".join(["text,label", *rows[: 8 if split == "train" else 4]])
            (in_tmp / name / f"{split}.csv").write_text(text)
        tasks.append({"name": name, "texts": ["text"], "classes": ["no", "yes"]})
    sources = [task | {"source": {"path": str(in_tmp / str(task["name"]))}} for task in tasks]
    return RoundRobinDataModule(
        tasks=[Task.read(task) for task in sources],
        backbone=backbone,
        batch_size=12,
        max_length=16,
        mixed=True,
    )


def encoded_for(method: MultiTaskModule, data: RoundRobinDataModule) -> RoundRobinDataModule:
    """The data as the method reads them: with the tasks' prompts."""
    if not isinstance(method, PromptBasedFineTuning):
        return data
    tasks = [
        replace(task, prompt=of_method.prompt)
        for task, of_method in zip(data.tasks, method.tasks, strict=True)
    ]
    return RoundRobinDataModule(
        tasks=tasks,
        backbone=method.backbone_name,
        batch_size=12,
        max_length=16,
        mixed=True,
        encoding=Prompted(),
    )


def assert_computes_with(method: MultiTaskModule, average: dict[str, Tensor], fresh: Any) -> None:
    """The method's weights are the average, and its outputs those of another method with them."""
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(parameter.detach(), average[name], atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            parameter.copy_(method.get_parameter(name))
    assert_equal(outputs(method.eval()), outputs(fresh))
    assert any(value.abs().max() > 0 for value in outputs(fresh).values())


@every_config
def test_an_exponential_average_computes_with_its_weights(
    config: Path, backbone: str, masked_backbone: str, data: RoundRobinDataModule
) -> None:
    method = build(config, backbone, masked_backbone)
    recorder = Recorder()
    averaging = EMAWeightAveraging(decay=DECAY)
    fit(method.train(), encoded_for(method, data), max_epochs=2, callbacks=[recorder, averaging])
    first, *others = recorder.steps
    average = first  # the first update copies the weights
    for weights in others:
        average = {
            name: DECAY * value + (1 - DECAY) * weights[name] for name, value in average.items()
        }
    assert any(not torch.equal(average[name], first[name]) for name in first)
    assert_computes_with(method, average, build(config, backbone, masked_backbone))
