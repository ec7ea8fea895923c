import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation as aggregation
from torch import Tensor

from mtl.__main__ import main
from mtl.balancing import Surgery
from mtl.balancing.surgery import UNSUPPORTED
from mtl.errors import UserError
from mtl.methods import MultiHead, Separate
from tests.balancing.helpers import (
    flat_grad,
    gradients_by_separate_passes,
    make_method,
    mixed_batch,
    training_step,
)

ARGS: dict[str, dict[str, Any]] = {
    "CAGrad": {"c": 0.4},
    "FairGrad": {"alpha": 1.0},
    "Krum": {"n_byzantine": 0},
    "Constant": {"weights": [1.0, 2.0, 0.5]},
}
AGGREGATORS = [
    name
    for name in aggregation.__all__
    if issubclass(getattr(aggregation, name), aggregation.Aggregator)
    and name not in (*UNSUPPORTED, "Aggregator")
]
AGGREGATORS = [
    name for name in AGGREGATORS if name not in ("GramianWeightedAggregator", "WeightedAggregator")
]


def pcgrad(gradients: Tensor, orders: list[list[int]]) -> Tensor:
    """Algorithm 1 of Yu et al. 2020; `orders` is the order of the other tasks for each task."""
    combined = torch.zeros_like(gradients[0])
    for task, order in enumerate(orders):
        projected = gradients[task].clone()
        for other in order:
            if other != task and (inner := projected @ gradients[other]) < 0:
                projected -= inner / (gradients[other] @ gradients[other]) * gradients[other]
        combined += projected
    return combined


def test_pcgrad_is_algorithm_1_of_the_paper(backbone: str) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.PCGrad))
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch(seed=3)
    training_step(method, batch)
    combined = flat_grad(method)
    method.balancer.on_fit_end()
    _, rows, _ = gradients_by_separate_passes(method, batch)
    each = list(map(list, itertools.permutations(range(3))))
    candidates = [pcgrad(rows, list(orders)) for orders in itertools.product(each, repeat=3)]
    assert min(float((combined - candidate).abs().max()) for candidate in candidates) < 1e-5


def test_opposed_tasks_have_a_cosine_near_minus_one_and_pcgrad_harms_neither(backbone: str) -> None:
    """Two tasks with the same examples and the same head, but opposite labels."""
    method = make_method(MultiHead, backbone, Surgery(aggregation.PCGrad))
    with torch.no_grad():
        for parameter, other in zip(
            method.heads["mood"].parameters(), method.heads["kind"].parameters(), strict=True
        ):
            other.copy_(parameter)
            if parameter.ndim == 1:  # without a bias, both labels have equally large gradients
                parameter.zero_(), other.zero_()
    method.balancer.on_fit_start(method, {})
    single_task = mixed_batch((2, 0, 0), (8, 8, 8))
    one = single_task.segments[0]
    tokens = {name: torch.cat([value, value]) for name, value in single_task.tokens.items()}
    two = one._replace(task="kind", examples=slice(2, 4), labels=1 - one.labels)
    batch = single_task._replace(
        tokens=tokens, task_ids=torch.tensor([0, 0, 2, 2]), segments=(one, two)
    )
    training_step(method, batch)
    gramian = torch.stack(list(method.balancer.gramians.values())).sum(0)
    cosine = gramian[0, 1] / (gramian[0, 0] * gramian[1, 1]).sqrt()
    assert cosine < -0.95
    update = flat_grad(method)
    method.balancer.on_fit_end()
    _, own, _ = gradients_by_separate_passes(method, batch)
    assert (own @ update > -1e-6 * own.norm() ** 2).all()


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_weighting_continues_exactly_from_a_checkpoint(
    name: str, backbone: str, in_tmp: Path
) -> None:
    def surgery() -> Surgery:
        balancer = Surgery(getattr(aggregation, name), ARGS.get(name))
        balancer.setup(["mood", "same", "kind"])
        return balancer

    generator = torch.Generator().manual_seed(0)
    gramians = [(rows := torch.randn(3, 8, generator=generator)) @ rows.t() for _ in range(4)]

    def weights(balancer: Surgery, gramian: Tensor) -> Tensor:
        balancer._seed = 7
        balancer._compute_weights({"all": gramian}, torch.ones(3))
        return balancer.weights

    one = surgery()
    for gramian in gramians[:2]:
        weights(one, gramian)
    torch.save(one.state_dict(), "state.pt")
    two = surgery()
    two.load_state_dict(torch.load("state.pt", weights_only=True))
    for gramian in gramians[2:]:
        assert torch.equal(weights(one, gramian), weights(two, gramian))


def test_a_weighting_of_gradient_matrices_gets_one_with_the_same_inner_products() -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    balancer = Surgery(aggregation.NashMTL)
    balancer.setup(["a", "b", "c"])
    balancer._seed = 0
    balancer._compute_weights({"all": rows @ rows.t()}, torch.ones(3))
    with pytest.warns(UserWarning, match="DPP"):
        expected = aggregation.NashMTL(n_tasks=3)(rows)
    torch.testing.assert_close(balancer.weights @ rows, expected, atol=1e-4, rtol=1e-4)


def test_an_overflow_gives_weights_of_one_so_that_the_gradient_scaler_skips_the_step() -> None:
    balancer = Surgery(aggregation.MGDA)
    balancer.setup(["a", "b"])
    balancer._compute_weights(
        {"all": torch.tensor([[1.0, float("inf")], [float("inf"), 1.0]])}, torch.ones(2)
    )
    assert balancer.weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_weighting_that_needs_more_than_inner_products_is_rejected(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} needs more than the inner products"):
        Surgery(getattr(aggregation, name))


def test_wrong_arguments_are_reported_by_name() -> None:
    with pytest.raises(UserError, match="CAGrad: .*'d'.*it takes c, norm_eps"):
        Surgery(aggregation.CAGrad, {"d": 1}).setup(["a", "b"])


def test_a_method_without_shared_parameters_is_rejected(backbone: str) -> None:
    method = make_method(Separate, backbone, Surgery(aggregation.PCGrad))
    with pytest.raises(UserError, match="Separate has no trainable shared parameters"):
        method.balancer.on_fit_start(method, {})


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.accumulate_grad_batches", "2", "--trainer.gradient_clip_val", "0.05"],
        ["--trainer.precision", "bf16-mixed"],
        ["--model.gradient_checkpointing", "true"],
    ],
    ids=["accumulation and clipping", "bf16", "checkpointing"],
)
def test_surgery_with_all_weights_one_trains_like_the_plain_sum(
    options: list[str], task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    """Checks what the Trainer adds: scaling, clipping, precision."""
    plain = {"class_path": "Sum"}
    surgery = {"class_path": "Surgery", "init_args": {"weighting": "torchjd.aggregation.Sum"}}
    weights = []
    for name, balancer in (("plain", plain), ("surgery", surgery)):
        arguments = [
            "fit",
            *[f"--tasks+={file}" for file in task_files],
            "--backbone",
            backbone,
            "--out",
            name,
            *options,
        ]
        arguments += [
            "--data",
            '{"class_path": "RoundRobinDataModule", "init_args": {"mixed": true, "batch_size": 8}}',
        ]
        arguments += [
            "--model.balancer",
            json.dumps(balancer),
            "--trainer.max_epochs",
            "1",
            "--trainer.accelerator",
            "cpu",
        ]
        # SGD, because AdamW's updates hardly depend on the scale of the gradients.
        arguments += [
            "--model.optimizer",
            "torch.optim.SGD",
            "--model.lr",
            "0.1",
            "--trainer.enable_progress_bar",
            "false",
        ]
        main([*arguments, "--trainer.enable_model_summary", "false"])
        weights.append(torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"])
    close: dict[str, Any] = (
        {"atol": 5e-3, "rtol": 0.05} if "bf16-mixed" in options else {"atol": 1e-5, "rtol": 1e-4}
    )
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, **close)
