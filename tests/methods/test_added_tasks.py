"""A task is added to a trained model: its modules are trained, the other answers stay the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.__main__ import main
from mtl.balancing import Surgery
from mtl.data import LossProportionalDataModule, RoundRobinDataModule
from mtl.data.encoding import Plain
from mtl.errors import UserError
from mtl.export.verification import sample_batch
from mtl.inference.predictor import Predictor
from mtl.methods import (
    CAMTL,
    Adapters,
    Joint,
    LoRA,
    MTLLoRA,
    MultiHead,
    PALs,
    PromptBasedFineTuning,
    Separate,
    TaskLayers,
)
from mtl.tasks import Task
from mtl.training.calibration_file import write_calibration
from tests.export.runs import save_run
from tests.methods.training import fit

METHODS: list[tuple[Any, dict[str, Any]]] = [
    (LoRA, {"per_task": True}),
    (LoRA, {}),
    (MTLLoRA, {}),
    (Adapters, {"per_task": True}),
    (PALs, {}),
    (PALs, {"variant": "shared_and_task"}),
    (MultiHead, {}),
    (TaskLayers, {}),
    (Separate, {}),
]
TEXTS: dict[str, list[tuple[str, ...]]] = {
    "mood": [("the cat sees it",), ("a good dog and a red train",)],
    "same": [("the cat", "a dog"), ("good", "quick slow train and blue film")],
    "near": [("the cat", "a dog"), ("good", "quick slow train and blue film")],
}
# What runs of `save_run` were trained with.
DATA: dict[str, Any] = {"max_length": 24}
QUICK = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def data(tasks: list[Task], backbone: str, cls: Any = RoundRobinDataModule, **args: Any) -> Any:
    return cls(tasks=tasks, backbone=backbone, encoding=Plain(), batch_size=8, **(DATA | args))


def logits(predictor: Predictor, task: str) -> torch.Tensor:
    with torch.no_grad():
        batch = sample_batch(predictor, predictor.tasks[task], TEXTS[task])
        return predictor.module(batch)[task]


@pytest.mark.parametrize(("cls", "args"), METHODS)
def test_other_tasks_keep_their_answers_to_the_bit(
    cls: Any, args: dict[str, Any], tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    run = save_run(in_tmp / "run", cls, tasks[:2], backbone, **args)
    added: Any = {"init_from": run, "train_only": "near"}
    torch.manual_seed(3)
    # The position in the list of tasks does not matter.
    module = cls(tasks=tasks[::-1], backbone=backbone, lr=0.05, **added, **args)
    start = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = fit(module, data(tasks[::-1], backbone, train_only="near"), max_steps=2)
    trainer.save_checkpoint(in_tmp / "new.ckpt")

    before, after = Predictor(run, device="cpu"), Predictor(in_tmp / "new.ckpt", device="cpu")
    for task in ("mood", "same"):
        assert torch.equal(logits(before, task), logits(after, task))
    weights = after.module.state_dict()
    for name, value in before.module.state_dict().items():
        assert torch.equal(value, weights[name]), name
    new = [name for name in weights if name not in before.module.state_dict()]
    assert any("heads.near" in name for name in new)
    assert all(not torch.equal(weights[name], start[name]) for name in new if "weight" in name)
    # Weights that the backbone restores are in neither checkpoint.
    frozen = cls in (LoRA, MTLLoRA, Adapters)
    saved = torch.load(in_tmp / "new.ckpt", weights_only=True)["state_dict"]
    assert frozen == all(not name.startswith("encoder") for name in saved)


def test_the_command_adds_a_task_and_resumes(
    task_files: list[Path],
    tasks: list[Task],
    backbone: str,
    in_tmp: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_run(in_tmp / "two", LoRA, tasks[:2], backbone, per_task=True)
    write_calibration(Path("two/checkpoints/best.ckpt"), {"mood": {"temperature": 2.0}})
    command = ["fit", *[f"--tasks+={file}" for file in task_files], "--backbone", backbone]
    command += ["--model", "LoRA", "--model.per_task", "true", "--data.encoding", "Plain"]
    command += ["--data.max_length", "24", "--data.batch_size", "16", *QUICK]
    command += ["--model.init_from", "two", "--model.train_only", "near", "--out", "three"]
    main([*command, "--trainer.max_epochs", "1"])
    before = Predictor("three", device="cpu")
    assert list(before.metrics["validation"]["tasks"]) == ["near"]
    assert "two is calibrated, and its new run will not be" in caplog.text
    main(["fit", "--ckpt_path", "three", "--trainer.max_epochs", "2", *QUICK])
    after = Predictor("three/checkpoints/last.ckpt", device="cpu")
    assert not torch.equal(logits(before, "near"), logits(after, "near"))
    for task in ("mood", "same"):
        assert torch.equal(logits(Predictor("two", device="cpu"), task), logits(after, task))


@pytest.mark.parametrize("cls", [RoundRobinDataModule, LossProportionalDataModule])
def test_training_reads_the_added_task_only(cls: Any, tasks: list[Task], backbone: str) -> None:
    scheme = data(tasks, backbone, cls, train_only=["same", "near"])
    assert scheme.groups == [[1], [2]]
    assert [each.name for each in scheme.evaluations("fit")] == ["same", "near"]
    for stage in ("validate", "test", "predict"):
        assert [each.name for each in scheme.evaluations(stage)] == ["mood", "same", "near"]


@pytest.mark.filterwarnings("ignore:.*has no pooling layer")
@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Joint, "Joint has no modules that belong to one task"),
        (PromptBasedFineTuning, "PromptBasedFineTuning has no modules that belong to one"),
        (CAMTL, "CAMTL has one embedding for all tasks"),
    ],
)
def test_methods_without_modules_of_each_task_are_refused(
    cls: Any, message: str, tasks: list[Task], masked_backbone: str
) -> None:
    chosen = [replace(tasks[0], name=name) for name in ("old", "new")]
    options: dict[str, Any] = {"init_from": Path("run"), "train_only": "new"}
    module = cls(tasks=chosen, backbone=masked_backbone, **options)
    with pytest.raises(UserError, match=f"--model.train_only: {message}"):
        module.setup("fit")


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ({"init_from": None}, {}, "train_only near: add the task to a trained model: give its"),
        ({"rank": 4}, {}, "but --model.rank differs: 8 in run, 4 here; start from the options"),
        ({"alpha": 9.0}, {}, "--model.alpha differs"),
        ({"pooling": "mean"}, {}, "--model.pooling differs: None in run, 'mean' here"),
        ({"losses": {"mood": "focal"}}, {}, "--model.losses.mood differs"),
        ({"cls": MultiHead}, {}, "--model differs: 'LoRA' in run, 'MultiHead' here"),
        ({}, {"max_length": 32}, "--data.max_length differs: 24 in run, 32 here"),
        ({"classes": ["good", "bad"]}, {}, "tasks.mood.classes differs: "),
        ({"without": "same"}, {}, "the model in run has the tasks same as well"),
        ({"train_only": "mood"}, {}, "no weights of this shape for .*near.* and . others, which"),
    ],
)
def test_what_would_change_other_answers_is_refused(
    args: dict[str, Any],
    given: dict[str, Any],
    message: str,
    tasks: list[Task],
    backbone: str,
    in_tmp: Path,
) -> None:
    save_run(in_tmp / "run", LoRA, tasks[:2], backbone, per_task=True)
    options: dict[str, Any] = {"init_from": Path("run"), "train_only": "near", "cls": LoRA} | args
    without = options.pop("without", None)
    tasks = [task for task in tasks if task.name != without]
    if classes := options.pop("classes", None):
        tasks = [replace(tasks[0], classes=classes), *tasks[1:]]
    cls, per_task = options.pop("cls"), {"per_task": True}
    scheme = data(tasks, backbone, train_only=options["train_only"], **given)
    with pytest.raises(UserError, match=message):
        module = cls(tasks=tasks, backbone=backbone, **options, **(per_task if cls is LoRA else {}))
        fit(module, scheme, max_steps=1)


def test_another_backbone_is_refused(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    run = save_run(in_tmp / "run", LoRA, tasks[:2], backbone)
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    torch.save(checkpoint | {"frozen": "0" * 64}, run / "checkpoints/best.ckpt")
    module = LoRA(tasks=tasks, backbone=backbone, init_from=run, train_only=["near"])
    with pytest.raises(UserError, match="the backbone's weights are not those that the run was"):
        fit(module, data(tasks, backbone, train_only=["near"]), max_steps=1)


def test_data_of_other_tasks_are_refused(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    run = save_run(in_tmp / "run", MultiHead, tasks[:2], backbone)
    module = MultiHead(tasks=tasks, backbone=backbone, init_from=run, train_only="near")
    with pytest.raises(UserError, match="train_only near: the data module trains on mood, same as"):
        fit(module, data(tasks, backbone), max_steps=1)


def test_surgery_of_one_task_is_refused(tasks: list[Task], backbone: str, in_tmp: Path) -> None:
    from torchjd.aggregation import UPGrad

    run = save_run(in_tmp / "run", MultiHead, tasks[:2], backbone)
    balancer = Surgery(UPGrad)
    options: dict[str, Any] = {"init_from": run, "train_only": "near", "balancer": balancer}
    module = MultiHead(tasks=tasks, backbone=backbone, **options)
    with pytest.raises(UserError, match="shared parameters"):
        fit(module, data(tasks, backbone, mixed=True, train_only="near"), max_steps=1)
