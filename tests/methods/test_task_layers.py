import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation as aggregation
from torch import Tensor, nn

from mtl.__main__ import main
from mtl.balancing import Sum, Surgery
from mtl.batch import Batch, Segment
from mtl.errors import UserError
from mtl.methods import MultiHead, TaskLayers
from mtl.regularizers import SMART
from tests.balancing.helpers import (
    assert_combined,
    make_method,
    mixed_batch,
    three_tasks,
    training_step,
)
from tests.conftest import save_backbone


def single(batch: Batch, segment: Segment) -> Batch:
    """The examples of one segment as a batch of their own."""
    examples, length = segment.examples, segment.length
    return batch._replace(
        tokens={name: value[examples, :length] for name, value in batch.tokens.items()},
        task_ids=batch.task_ids[examples],
        segments=(segment._replace(examples=slice(0, examples.stop - examples.start)),),
    )


def same_start(backbone: str, **options: Any) -> tuple[MultiHead, TaskLayers]:
    """`MultiHead` and `TaskLayers` with equal weights."""
    shared: dict[str, Any] = {"tasks": three_tasks(), "backbone": backbone}
    plain = MultiHead(**shared).eval()
    method = TaskLayers(**shared, **options).eval()
    method.heads.load_state_dict(plain.heads.state_dict())
    return plain, method


def without_dropout(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def gradients(method: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("layers", [1, 2])
def test_at_initialization_it_equals_multi_head(layers: int, family: str, in_tmp: Path) -> None:
    backbone = str(save_backbone(family, in_tmp))
    plain, method = same_start(backbone, layers=layers)
    batch = mixed_batch(types=family != "roberta")
    for segment in batch.segments:
        alone = single(batch, segment)
        assert torch.equal(method(alone)[segment.task], plain(alone)[segment.task])
    for task, logits in method(batch).items():
        torch.testing.assert_close(logits, plain(batch)[task], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_mixed_batch_equals_separate_batches(layers: int, backbone: str) -> None:
    method = make_method(TaskLayers, backbone, Sum(), layers=layers)
    batch = mixed_batch()
    logits = method(batch)
    for segment in batch.segments:
        alone = method(single(batch, segment))[segment.task]
        torch.testing.assert_close(logits[segment.task], alone, atol=1e-5, rtol=1e-5)


def test_tasks_compute_with_their_own_layers(backbone: str) -> None:
    method = make_method(TaskLayers, backbone, Sum())
    before = method(mixed_batch())
    with torch.no_grad():
        for parameter in method.encoder.backbone.encoder.layer[-1].per_task["same"].parameters():
            parameter.zero_()
    after = method(mixed_batch())
    changed = {task for task in before if not torch.equal(before[task], after[task])}
    assert changed == {"same"}


def test_a_mixed_batch_trains_the_layers_of_its_tasks_only(backbone: str) -> None:
    method = make_method(TaskLayers, backbone, Sum())
    batch = mixed_batch()
    pair = batch._replace(
        segments=batch.segments[:2],
        task_ids=batch.task_ids[:7],
        tokens={name: value[:7] for name, value in batch.tokens.items()},
    )
    sum(method.task_losses(pair).values()).backward()
    top = method.encoder.backbone.encoder.layer[-1].per_task
    assert all(parameter.grad is not None for parameter in top["mood"].parameters())
    assert all(parameter.grad is not None for parameter in top["same"].parameters())
    assert all(parameter.grad is None for parameter in top["kind"].parameters())


def test_the_last_layers_are_per_task_and_all_others_shared(backbone: str) -> None:
    method = TaskLayers(tasks=three_tasks(), backbone=backbone, layers=1)
    plain = MultiHead(tasks=three_tasks(), backbone=backbone)
    top = plain.get_submodule("encoder.backbone.encoder.layer.1")
    added = 2 * sum(parameter.numel() for parameter in top.parameters())
    assert sum(p.numel() for p in method.parameters()) == added + sum(
        p.numel() for p in plain.parameters()
    )
    per_task = {name for name, _ in method.named_parameters() if ".per_task." in name}
    assert {name.split(".")[6] for name in per_task} == {"mood", "same", "kind"}
    assert all(name.startswith("encoder.backbone.encoder.layer.1.per_task.") for name in per_task)
    assert method.encoder_is_task_specific and not plain.encoder_is_task_specific


def test_checkpointed_layers_give_the_same_gradients(backbone: str) -> None:
    results = []
    for checkpointing in (False, True):
        method = make_method(
            TaskLayers, backbone, Sum(), gradient_checkpointing=checkpointing
        ).train()
        without_dropout(method)
        sum(method.task_losses(mixed_batch()).values()).backward()
        results.append(gradients(method))
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
def test_surgery_is_exact(mode: Any, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = make_method(TaskLayers, backbone, Surgery(aggregation.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    monkeypatch.setattr(
        "mtl.balancing.surgery.slow_task_gradients", lambda *_: pytest.fail("a pass for each task")
    )
    training_step(method, mixed_batch())
    assert_combined(method, mixed_batch())


def test_smart_adds_to_the_loss_of_every_task(backbone: str) -> None:
    method = make_method(TaskLayers, backbone, Sum(), regularizer=SMART())
    method.regularizer.on_fit_start(method, {})
    losses = method.task_losses(mixed_batch())
    plain = make_method(TaskLayers, backbone, Sum()).task_losses(mixed_batch())
    assert all(losses[task] > plain[task] for task in plain)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_a_copy_has_its_own_layers(backbone: str) -> None:
    method = make_method(TaskLayers, backbone, Sum())
    duplicate, expected = copy.deepcopy(method), method(mixed_batch())
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
    for task, logits in duplicate(mixed_batch()).items():
        assert torch.equal(logits, expected[task])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (0, "layers 0: give 1 or more"),
        (-1, "layers -1: give 1 or more"),
        (3, "--model.layers 3: .* 2 layers; give 1 to 2"),
    ],
)
def test_other_numbers_of_layers_are_refused(layers: int, message: str, backbone: str) -> None:
    with pytest.raises(UserError, match=message):
        TaskLayers(tasks=three_tasks(), backbone=backbone, layers=layers)


def test_a_plain_encoder_fills_the_layers_of_every_task(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    options = [f"--tasks+={file}" for file in task_files]
    options += ["--backbone", backbone, "--data.batch_size", "8", "--trainer.max_epochs", "1"]
    options += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    main(["fit", *options, "--out", "plain", "--model.lr", "1e-2"])
    # With a negligible learning rate the saved weights are the initial ones.
    per_task = ["--model", "TaskLayers", "--model.init_from", "plain", "--model.lr", "1e-30"]
    main(["fit", *options, "--out", "layers", *per_task])
    plain = torch.load("plain/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    weights = torch.load("layers/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert any(".per_task." in name for name in weights)
    for name, value in weights.items():
        source = name
        for task in ("mood", "same", "near"):
            source = source.replace(f".per_task.{task}.", ".")
        torch.testing.assert_close(value, plain[source], atol=1e-6, rtol=0)


def test_the_documentation_shows_the_code() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/writing-a-method.md").read_text(encoding="utf-8")
    code = (root / "mtl/methods/task_layers.py").read_text(encoding="utf-8")
    # The page gives the class another name: two classes `TaskLayers` would make
    # `--model TaskLayers` ambiguous.
    assert f"```python\n# my_layers.py\n{code.replace('TaskLayers', 'MyLayers')}```" in page
