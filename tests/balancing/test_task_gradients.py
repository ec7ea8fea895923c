from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation as aggregation
from torch import Tensor, nn

from mtl.balancing import Surgery
from mtl.balancing.linear_factors import Factors, LinearFactors, TaskRange
from mtl.balancing.task_gradients import layer_group
from mtl.methods import CAMTL, Joint, MultiHead, MultiTaskModule
from mtl.modules import SAN
from tests.balancing.helpers import (
    assert_combined,
    gradients_by_separate_passes,
    make_method,
    mixed_batch,
    no_separate_passes,
    task_losses,
    training_step,
)
from tests.conftest import save_backbone

MODES = ("stored", "two_pass")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "family", ["bert", "roberta", "electra", "deberta", "distilbert", "modernbert"]
)
def test_one_backward_pass_gives_the_gradients_of_separate_passes(
    family: str, mode: Any, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make_method(
        MultiHead, str(save_backbone(family, in_tmp)), Surgery(aggregation.UPGrad, mode=mode)
    )
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch(types=family == "bert")
    with no_separate_passes(monkeypatch):
        training_step(method, batch)
    assert_combined(method, batch)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("cls", "args"),
    [
        (CAMTL, {}),
        (CAMTL, {"variant": "large"}),
        (CAMTL, {"gradient_checkpointing": True}),
        (CAMTL, {"freeze_layers": "0-0"}),
        (Joint, {"labels": "union"}),
        (MultiHead, {"pooling": "pooler"}),
        (MultiHead, {"pair_head": SAN()}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value) or "plain",
)
def test_one_backward_pass_suffices_for_every_method_with_shared_parameters(
    cls: type[MultiTaskModule],
    args: dict[str, Any],
    mode: Any,
    backbone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = make_method(cls, backbone, Surgery(aggregation.PCGrad, mode=mode), **args).train(
        bool(args.get("gradient_checkpointing"))
    )
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch()
    with no_separate_passes(monkeypatch):
        training_step(method, batch)
    assert_combined(method.eval(), batch)


def test_uncaptured_layers_cause_separate_passes_and_a_warning(in_tmp: Path) -> None:
    from transformers import AutoModel, DebertaV2Config

    save_backbone("deberta", in_tmp)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    relative: dict[str, Any] = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
    }
    AutoModel.from_config(
        DebertaV2Config(vocab_size=28, max_position_embeddings=64, **sizes, **relative)
    ).save_pretrained(in_tmp)
    method = make_method(MultiHead, str(in_tmp), Surgery(aggregation.UPGrad))
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch(types=False)
    with pytest.warns(
        UserWarning, match="a backward pass for each task, because .* cannot be captured"
    ):
        training_step(method, batch)
    assert_combined(method, batch)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_accumulated_and_scaled_as_the_trainer_scales_the_loss(
    mode: Any, backbone: str
) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    batches = mixed_batch(seed=1), mixed_batch(seed=2, sizes=(2, 5, 3))
    expected: dict[str, Tensor] = {}
    for batch in batches:
        training_step(method, batch, scale=0.5)
        weights = method.balancer.weights
        shared, rows, _ = gradients_by_separate_passes(method, batch)
        for name, part in zip(
            shared, (0.5 * weights @ rows).split([p.numel() for p in shared.values()]), strict=True
        ):
            expected[name] = expected.get(name, torch.zeros_like(part)) + part
    for name, parameter in shared.items():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.flatten(), expected[name], atol=1e-5, rtol=1e-5)


def test_heads_get_their_tasks_gradient_and_heads_of_absent_tasks_none(backbone: str) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.MGDA))
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch()
    batch = batch._replace(
        segments=batch.segments[:2],
        task_ids=batch.task_ids[:7],
        tokens={n: v[:7] for n, v in batch.tokens.items()},
    )
    training_step(method, batch)
    method.balancer.on_fit_end()
    losses = method.task_losses(batch)
    for task in ("mood", "same"):
        own = torch.autograd.grad(
            losses[task], list(method.heads[task].parameters()), retain_graph=True
        )
        for parameter, gradient in zip(method.heads[task].parameters(), own, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert all(parameter.grad is None for parameter in method.heads["kind"].parameters())


@pytest.mark.parametrize("mode", MODES)
def test_bf16_gives_the_same_within_its_precision(mode: Any, backbone: str) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = task_losses(method, batch)
    method.balancer.backward(method.combined(batch, losses))
    assert all(p.grad is None or p.grad.dtype == torch.float for p in method.parameters())
    assert_combined(method, batch, atol=0.05, rtol=0.05)


def test_outside_of_a_step_and_after_training_the_layers_are_unchanged(backbone: str) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.PCGrad))
    batch = mixed_batch()
    plain = method(batch)
    method.balancer.on_fit_start(method, {})
    training_step(method, batch)
    for task, logits in method(batch).items():
        assert torch.equal(logits, plain[task])
    method.balancer.on_fit_end()
    assert not any("forward" in vars(module) for module in method.modules())


def test_parameters_are_grouped_by_the_index_of_their_layer() -> None:
    assert layer_group("encoder.backbone.encoder.layer.3.output.dense.weight") == "layer 3"
    assert layer_group("encoder.backbone.layers.11.mlp.Wo.weight") == "layer 11"
    assert layer_group("encoder.backbone.embeddings.word_embeddings.weight") == "embeddings"
    assert layer_group("encoder.backbone.pooler.dense.bias") == "other"


def test_layers_whose_outputs_are_added_have_one_gradient_in_common() -> None:
    torch.manual_seed(0)
    gradient, first, second = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 2)
    ranges = [TaskRange(0, 0, 2), TaskRange(1, 2, 5)]
    factors = LinearFactors()
    factors.start(2)
    factors.add(Factors("first", first, gradient, ranges))
    factors.add(Factors("second", second, gradient, ranges))
    products = dict(factors.products(lambda name: torch.tensor([0.5, -2.0])))
    weighted = torch.cat([0.5 * gradient[:2], -2 * gradient[2:]])
    torch.testing.assert_close(products["first"], weighted.t() @ first)
    torch.testing.assert_close(products["second"], weighted.t() @ second)


@pytest.mark.parametrize("mode", [*MODES, "separate passes"])
@pytest.mark.parametrize("by", ["layer", "matrix"])
def test_groups_of_parameters_have_weights_of_their_own(
    by: Any, mode: Any, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of a group are those of the weighting for the group's gradients alone."""
    separate = mode == "separate passes"
    balancer = Surgery(aggregation.UPGrad, mode="auto" if separate else mode, by=by)
    method = make_method(MultiHead, backbone, balancer)
    balancer.on_fit_start(method, {})
    if separate:
        monkeypatch.setattr(balancer, "_separate_passes", True)
        training_step(method, mixed_batch())
    else:
        with no_separate_passes(monkeypatch):
            training_step(method, mixed_batch())
    actual = {name: parameter.grad for name, parameter in method.named_parameters()}
    balancer.on_fit_end()
    shared, rows, used = gradients_by_separate_passes(method, mixed_batch())
    pieces = dict(zip(shared, rows.split([p.numel() for p in shared.values()], dim=1), strict=True))
    group = layer_group if by == "layer" else str
    for index, (name, piece) in enumerate(pieces.items()):
        together = torch.cat([pieces[other] for other in pieces if group(other) == group(name)], 1)
        expected = aggregation.UPGrad().gramian_weighting(together @ together.t()) @ piece
        gradient = actual[name]
        assert (gradient is not None) == bool(used[index])
        if gradient is not None:
            torch.testing.assert_close(gradient.flatten(), expected, atol=1e-5, rtol=1e-3)
    assert len(balancer.groups.weights) == len({group(name) for name in pieces if name in actual})
