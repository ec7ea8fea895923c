"""A deep copy of a method computes with its own weights."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback
from torch import Tensor
from torchjd.aggregation import PCGrad

import mtl.methods
from mtl.balancing import Balancer, Surgery
from mtl.batch import Batch, EncodedExamples, collate
from mtl.data import RoundRobinDataModule
from mtl.methods import MultiHead, MultiTaskModule
from mtl.tasks import Prompt, Source, Task
from tests.methods.training import fit

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted((FOLDER / "methods").glob("*.yaml"))
BALANCERS = sorted((FOLDER / "balancing").glob("*.yaml"))
LENGTHS = {"mood": (5, 7, 6), "tone": (4, 6), "kind": (25, 21)}


def classification_tasks() -> list[Task]:
    """Tasks that every method can train: the same two classes, and a prompt."""
    return [
        Task(
            name=name,
            texts=["text"],
            label="label",
            classes=["no", "yes"],
            source=Source(path="."),
            prompt=Prompt(template="{text} {mask}", words={"no": "bad", "yes": "good"}),
        )
        for name in LENGTHS
    ]


def mixed_batch() -> Batch:
    """Examples of all tasks; the lengths split them into several passes through the encoder."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for index, lengths in enumerate(LENGTHS.values()):
        rows = [torch.randint(5, 20, (n,), generator=generator).numpy() for n in lengths]
        tokens: dict[str, Any] = {
            "input_ids": rows,
            "token_type_ids": [0 * row for row in rows],
            "mask_position": torch.ones(len(rows), dtype=torch.int64).numpy(),
        }
        labels = torch.arange(len(rows)).numpy() % 2
        parts.append(EncodedExamples(index, tokens, labels, labels, float(len(rows))))
    return collate(parts, list(LENGTHS), {})


def build(config: Path, backbone: str, masked_backbone: str) -> MultiTaskModule:
    """Builds the method of a file of configs/methods, with all parameters moved away from zero."""
    model = yaml.safe_load(config.read_text())["model"]
    options: dict[str, Any] = model.get("init_args", {})
    cls: type[MultiTaskModule] = getattr(mtl.methods, model["class_path"])
    if config.stem.startswith("mft"):
        options |= {"scores": "none", "pooling": "cls"}
    if cls is mtl.methods.CAMTL:
        options |= {"max_length": 32}
    # The parser makes objects of the options that are given by class path.
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "model", skip={"tasks", "backbone"}, instantiate=False)
    parsed = parser.instantiate(parser.parse_object({"model": options}))
    torch.manual_seed(0)
    method = cls(
        tasks=classification_tasks(),
        backbone=masked_backbone if config.stem == "prompt" else backbone,
        **{name: parsed.model[name] for name in options},
    )
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return method.eval()


def outputs(method: MultiTaskModule) -> dict[str, Tensor]:
    with torch.no_grad():
        return method(mixed_batch())


def train_step(method: MultiTaskModule) -> None:
    method.train()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    torch.stack(list(method.task_losses(mixed_batch()).values())).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    method.eval()


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[task], second[task]) for task in first)


every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)


@every_config
@pytest.mark.parametrize("trained", [False, True], ids=["untrained", "trained"])
def test_a_copy_does_not_use_the_weights_of_the_original(
    config: Path, trained: bool, backbone: str, masked_backbone: str
) -> None:
    method = build(config, backbone, masked_backbone)
    if trained:
        train_step(method)
    expected = outputs(method)
    duplicate = copy.deepcopy(method)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    assert_equal(outputs(duplicate), expected)


@every_config
def test_training_a_copy_does_not_change_the_original(
    config: Path, backbone: str, masked_backbone: str
) -> None:
    method = build(config, backbone, masked_backbone)
    expected = outputs(method)
    weights = {name: value.clone() for name, value in method.state_dict().items()}
    duplicate = copy.deepcopy(method)
    train_step(duplicate)
    assert_equal(method.state_dict(), weights)
    assert_equal(outputs(method), expected)
    assert all(parameter.grad is None for parameter in method.parameters())
    assert any(not torch.equal(outputs(duplicate)[task], expected[task]) for task in expected)


def test_checkpointed_layers_of_a_copy_use_its_own_weights(backbone: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"tasks": classification_tasks(), "backbone": backbone}
    method = mtl.methods.PALs(**options, init="normal", gradient_checkpointing=True)
    train_step(method)
    duplicate = copy.deepcopy(method)
    for module in (method, duplicate):
        module.train()
        torch.manual_seed(1)
        torch.stack(list(module.task_losses(mixed_batch()).values())).sum().backward()
    for parameter, copied in zip(method.parameters(), duplicate.parameters(), strict=True):
        assert parameter.grad is not None and copied.grad is not None
        assert torch.equal(parameter.grad, copied.grad)


class CopyAfterStep(Callback):
    """Copies the method within a run, as a callback that averages weights does."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.expected = outputs(pl_module.eval())
        self.duplicate: MultiTaskModule = copy.deepcopy(pl_module)
        pl_module.train()


def assert_copied_after_step(balancer: Balancer | None, backbone: str, data: Any) -> None:
    method = MultiHead(tasks=data.tasks, backbone=backbone, balancer=balancer)
    copies = CopyAfterStep()
    fit(method, data, max_steps=2, callbacks=[copies])
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    assert_equal(outputs(copies.duplicate), copies.expected)


@pytest.fixture
def mixed_data(tasks: list[Task], backbone: str, in_tmp: Path) -> RoundRobinDataModule:
    """Batches of three tasks, with the names of the tasks of `mixed_batch`."""
    renamed = [replace(task, name=name) for task, name in zip(tasks, LENGTHS, strict=True)]
    return RoundRobinDataModule(tasks=renamed, backbone=backbone, max_length=16, mixed=True)


@pytest.mark.parametrize("config", BALANCERS, ids=lambda path: path.stem)
def test_a_copy_after_a_step_does_not_use_the_weights_of_the_original(
    config: Path, backbone: str, mixed_data: RoundRobinDataModule
) -> None:
    model = yaml.safe_load(config.read_text())["model"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--balancer", type=Balancer)
    parsed = parser.instantiate(parser.parse_object({"balancer": model["init_args"]["balancer"]}))
    assert_copied_after_step(parsed.balancer, backbone, mixed_data)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
def test_a_copy_after_a_step_of_surgery_contains_no_graph(
    mode: Any, backbone: str, mixed_data: RoundRobinDataModule
) -> None:
    assert_copied_after_step(Surgery(PCGrad, mode=mode), backbone, mixed_data)
