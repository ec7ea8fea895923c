import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation as rules
from torch import Tensor, nn

from mtl.__main__ import main
from mtl.balancing import Balancer, Surgery
from mtl.balancing.shared_parameters import shared_parameters
from mtl.balancing.surgery import UNSUPPORTED
from mtl.balancing.task_gradients import layer_group
from mtl.batch import Batch, EncodedExamples, collate
from mtl.errors import UserError
from mtl.methods import CAMTL, Joint, MultiHead, MultiTaskModule, Separate
from mtl.modules.task_context import task_context
from mtl.tasks import Source, Task
from tests.conftest import save_backbone

MODES = ("stored", "two_pass")
ARGS: dict[str, dict[str, Any]] = {
    "CAGrad": {"c": 0.4},
    "FairGrad": {"alpha": 1.0},
    "Krum": {"n_byzantine": 0},
    "Constant": {"weights": [1.0, 2.0, 0.5]},
}
RULES = [
    name
    for name in rules.__all__
    if issubclass(getattr(rules, name), rules.Aggregator) and name not in (*UNSUPPORTED, "Aggregator")
]
RULES = [name for name in RULES if name not in ("GramianWeightedAggregator", "WeightedAggregator")]


def three_tasks() -> list[Task]:
    made = []
    for name, outputs in (("mood", 2), ("same", 3), ("kind", 2)):
        classes = ["no", "yes", "maybe"][:outputs]
        made.append(
            Task(name=name, texts=["text"], label="label", classes=classes, source=Source(path="."))
        )
    return made


def mixed(
    sizes: tuple[int, ...] = (3, 4, 2),
    lengths: tuple[int, ...] = (6, 9, 25),
    seed: int = 0,
    types: bool = True,
) -> Batch:
    """Rows of all tasks, of lengths that part them into several passes."""
    chance = np.random.default_rng(seed)
    parts = []
    for task, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        ids = [
            np.concatenate([[2], chance.integers(5, 20, length - 2 - row % 3), [3]])
            for row in range(size)
        ]
        tokens = {"input_ids": ids} | (
            {"token_type_ids": [np.arange(len(row)) % 2 for row in ids]} if types else {}
        )
        parts.append(
            EncodedExamples(task, tokens, chance.integers(0, 2, size), np.arange(size), float(size))
        )
    return collate(parts, [task.name for task in three_tasks()], {})


def made(cls: type[MultiTaskModule], backbone: str, balancer: Balancer, **args: Any) -> Any:
    torch.manual_seed(0)
    if cls is CAMTL:
        args["max_length"] = 32
    method = cls(tasks=three_tasks(), backbone=backbone, balancer=balancer, **args).eval()
    with torch.no_grad():  # moved, so that no part is zero
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return method


def losses_of(method: Any, batch: Batch) -> dict[str, Tensor]:
    method.balancer.on_step_start(batch, seed=5)
    with task_context(batch.segments, slice(0, len(batch.task_ids))):
        return method.task_losses(batch)


def step(method: Any, batch: Batch, scale: float = 1.0) -> None:
    losses = losses_of(method, batch)
    method.balancer.backward(scale * method.combined(batch, losses))


def by_hand(method: Any, batch: Batch) -> tuple[dict[str, nn.Parameter], Tensor, Tensor]:
    """Shared parameters; every task's gradient of them, flat, by a backward pass for each task; which of them have one."""
    shared = shared_parameters(method)
    losses = method.task_losses(batch)
    rows, has = [], torch.zeros(len(shared), dtype=torch.bool)
    for loss in losses.values():
        found = torch.autograd.grad(
            loss, list(shared.values()), retain_graph=True, allow_unused=True
        )
        has |= torch.tensor([gradient is not None for gradient in found])
        rows.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten()
                    for g, p in zip(found, shared.values(), strict=True)
                ]
            )
        )
    return shared, torch.stack(rows), has


def flat_grad(method: Any) -> Tensor:
    return torch.cat(
        [
            parameter.grad.flatten()
            for parameter in shared_parameters(method).values()
            if parameter.grad is not None
        ]
    )


def assert_combined(method: Any, batch: Batch, scale: float = 1.0, **given: float) -> None:
    """That `.grad` of the shared parameters is the weighted sum of the tasks' gradients, and the Gramian theirs."""
    balancer = method.balancer
    assert isinstance(balancer, Surgery)
    got = {name: parameter.grad for name, parameter in method.named_parameters()}
    balancer.on_fit_end()
    shared, rows, has = by_hand(method, batch)
    near: dict[str, Any] = given or {"atol": 1e-5, "rtol": 1e-5}
    gramian = torch.stack(list(balancer.gramians.values())).sum(0)
    torch.testing.assert_close(gramian, rows @ rows.t(), **near)
    parts = (scale * balancer.weights @ rows).split(
        [parameter.numel() for parameter in shared.values()]
    )
    for (name, parameter), part, used in zip(shared.items(), parts, has.tolist(), strict=True):
        gradient = got[name]
        assert (gradient is not None) == used, name
        if gradient is not None:
            torch.testing.assert_close(gradient, part.view_as(parameter), **near)


@contextmanager
def no_other_pass(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, a backward pass for each task is an error."""
    with monkeypatch.context() as patch:
        patch.setattr(
            "mtl.balancing.surgery.slow_task_gradients",
            lambda *_: pytest.fail("a pass for each task"),
        )
        yield


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "family", ["bert", "roberta", "electra", "deberta", "distilbert", "modernbert"]
)
def test_one_pass_gives_what_a_pass_for_each_task_gives(
    family: str, mode: Any, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = made(MultiHead, str(save_backbone(family, in_tmp)), Surgery(rules.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    batch = mixed(types=family == "bert")
    with no_other_pass(monkeypatch):
        step(method, batch)
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
        (MultiHead, {"heads": "san"}),
    ],
    ids=lambda value: (
        value.__name__ if isinstance(value, type) else "-".join(map(str, value.values()))
    ),
)
def test_one_pass_serves_every_method_that_shares(
    cls: type[MultiTaskModule],
    args: dict[str, Any],
    mode: Any,
    backbone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = made(cls, backbone, Surgery(rules.PCGrad, mode=mode), **args).train(
        bool(args.get("gradient_checkpointing"))
    )
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    method.balancer.on_fit_start(method, {})
    batch = mixed()
    with no_other_pass(monkeypatch):
        step(method, batch)
    assert_combined(method.eval(), batch)


def test_a_part_that_is_not_known_takes_a_pass_for_each_task_and_says_so(in_tmp: Path) -> None:
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
    method = made(MultiHead, str(in_tmp), Surgery(rules.UPGrad))
    method.balancer.on_fit_start(method, {})
    batch = mixed(types=False)
    with pytest.warns(UserWarning, match="a backward pass for each task, because .* cannot be captured"):
        step(method, batch)
    assert_combined(method, batch)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_accumulate_and_the_trainers_scale_rides_along(mode: Any, backbone: str) -> None:
    method = made(MultiHead, backbone, Surgery(rules.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    batches = mixed(seed=1), mixed(seed=2, sizes=(2, 5, 3))
    expected: dict[str, Tensor] = {}
    for batch in batches:
        step(method, batch, scale=0.5)
        weights = method.balancer.weights
        shared, rows, _ = by_hand(method, batch)
        for name, part in zip(
            shared, (0.5 * weights @ rows).split([p.numel() for p in shared.values()]), strict=True
        ):
            expected[name] = expected.get(name, torch.zeros_like(part)) + part
    for name, parameter in shared.items():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.flatten(), expected[name], atol=1e-5, rtol=1e-5)


def test_heads_keep_their_own_gradient_and_absent_ones_none(backbone: str) -> None:
    method = made(MultiHead, backbone, Surgery(rules.MGDA))
    method.balancer.on_fit_start(method, {})
    batch = mixed()
    batch = batch._replace(
        segments=batch.segments[:2],
        task_ids=batch.task_ids[:7],
        tokens={n: v[:7] for n, v in batch.tokens.items()},
    )
    step(method, batch)
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
def test_bf16_products_give_the_same_within_their_precision(mode: Any, backbone: str) -> None:
    method = made(MultiHead, backbone, Surgery(rules.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    batch = mixed()
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(method, batch)
    method.balancer.backward(method.combined(batch, losses))
    assert all(p.grad is None or p.grad.dtype == torch.float for p in method.parameters())
    assert_combined(method, batch, atol=0.05, rtol=0.05)


def test_without_a_step_the_layers_are_what_they_were(backbone: str) -> None:
    method = made(MultiHead, backbone, Surgery(rules.PCGrad))
    batch = mixed()
    plain = method(batch)
    method.balancer.on_fit_start(method, {})
    step(method, batch)
    for task, logits in method(batch).items():
        assert torch.equal(logits, plain[task])
    method.balancer.on_fit_end()
    assert not any("forward" in vars(module) for module in method.modules())


def pcgrad(rows: Tensor, orders: list[list[int]]) -> Tensor:
    """Algorithm 1 of Yu et al. 2020, with the order in which each task meets the others given."""
    combined = torch.zeros_like(rows[0])
    for task, order in enumerate(orders):
        own = rows[task].clone()
        for other in order:
            if other != task and (inner := own @ rows[other]) < 0:
                own -= inner / (rows[other] @ rows[other]) * rows[other]
        combined += own
    return combined


def test_pcgrad_is_the_papers_algorithm(backbone: str) -> None:
    method = made(MultiHead, backbone, Surgery(rules.PCGrad))
    method.balancer.on_fit_start(method, {})
    batch = mixed(seed=3)
    step(method, batch)
    got = flat_grad(method)
    method.balancer.on_fit_end()
    _, rows, _ = by_hand(method, batch)
    each = list(map(list, itertools.permutations(range(3))))
    candidates = [pcgrad(rows, list(orders)) for orders in itertools.product(each, repeat=3)]
    assert min(float((got - candidate).abs().max()) for candidate in candidates) < 1e-5


def test_opposed_tasks_have_a_cosine_of_minus_one_and_pcgrad_hurts_neither(backbone: str) -> None:
    """Two tasks with the same rows, the same head, and each other's labels."""
    method = made(MultiHead, backbone, Surgery(rules.PCGrad))
    with torch.no_grad():
        for parameter, other in zip(
            method.heads["mood"].parameters(), method.heads["kind"].parameters(), strict=True
        ):
            other.copy_(parameter)
            if parameter.ndim == 1:  # undecided, or the more certain label pulls less
                parameter.zero_(), other.zero_()
    method.balancer.on_fit_start(method, {})
    rows = mixed((2, 0, 0), (8, 8, 8))
    one = rows.segments[0]
    tokens = {name: torch.cat([value, value]) for name, value in rows.tokens.items()}
    two = one._replace(task="kind", examples=slice(2, 4), labels=1 - one.labels)
    batch = rows._replace(tokens=tokens, task_ids=torch.tensor([0, 0, 2, 2]), segments=(one, two))
    step(method, batch)
    gramian = torch.stack(list(method.balancer.gramians.values())).sum(0)
    cosine = gramian[0, 1] / (gramian[0, 0] * gramian[1, 1]).sqrt()
    assert cosine < -0.95
    update = torch.cat(
        [
            parameter.grad.flatten()
            for parameter in shared_parameters(method).values()
            if parameter.grad is not None
        ]
    )
    method.balancer.on_fit_end()
    _, own, _ = by_hand(method, batch)
    assert (own @ update > -1e-6 * own.norm() ** 2).all()


@pytest.mark.parametrize("name", RULES)
def test_every_rule_goes_on_from_a_checkpoint_where_it_stood(
    name: str, backbone: str, in_tmp: Path
) -> None:
    def surgery() -> Surgery:
        balancer = Surgery(getattr(rules, name), ARGS.get(name))
        balancer.setup(["mood", "same", "kind"])
        return balancer

    chance = torch.Generator().manual_seed(0)
    gramians = [(rows := torch.randn(3, 8, generator=chance)) @ rows.t() for _ in range(4)]

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


def test_a_rule_that_reads_gradients_gets_a_root_of_their_gramian() -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    balancer = Surgery(rules.NashMTL)
    balancer.setup(["a", "b", "c"])
    balancer._seed = 0
    balancer._compute_weights({"all": rows @ rows.t()}, torch.ones(3))
    with pytest.warns(UserWarning, match="DPP"):
        expected = rules.NashMTL(n_tasks=3)(rows)
    torch.testing.assert_close(balancer.weights @ rows, expected, atol=1e-4, rtol=1e-4)


def test_an_overflow_is_left_to_the_trainers_scaler() -> None:
    balancer = Surgery(rules.MGDA)
    balancer.setup(["a", "b"])
    balancer._compute_weights(
        {"all": torch.tensor([[1.0, float("inf")], [float("inf"), 1.0]])}, torch.ones(2)
    )
    assert balancer.weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_needs_more_than_inner_products_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} needs more than the inner products"):
        Surgery(getattr(rules, name))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UserError, match="CAGrad: .*'d'.*it takes c, norm_eps"):
        Surgery(rules.CAGrad, {"d": 1}).setup(["a", "b"])


def test_nothing_shared_is_refused(backbone: str) -> None:
    method = made(Separate, backbone, Surgery(rules.PCGrad))
    with pytest.raises(UserError, match="Separate has no trainable shared parameters"):
        method.balancer.on_fit_start(method, {})


def test_layers_are_grouped_by_their_number() -> None:
    assert layer_group("encoder.backbone.encoder.layer.3.output.dense.weight") == "layer 3"
    assert layer_group("encoder.backbone.layers.11.mlp.Wo.weight") == "layer 11"
    assert layer_group("encoder.backbone.embeddings.word_embeddings.weight") == "embeddings"
    assert layer_group("encoder.backbone.pooler.dense.bias") == "other"


@pytest.mark.parametrize(
    "more",
    [
        ["--trainer.accumulate_grad_batches", "2", "--trainer.gradient_clip_val", "0.05"],
        ["--trainer.precision", "bf16-mixed"],
        ["--model.gradient_checkpointing", "true"],
    ],
    ids=["accumulation and clipping", "bf16", "checkpointing"],
)
def test_with_all_weights_one_training_is_plain_training(
    more: list[str], task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    """The Trainer's part of it: scaling, clipping, precision."""
    plain = {"class_path": "Sum"}
    surgery = {"class_path": "Surgery", "init_args": {"weighting": "torchjd.aggregation.Sum"}}
    found = []
    for name, balancer in (("plain", plain), ("surgery", surgery)):
        words = [
            "fit",
            *[f"--tasks+={file}" for file in task_files],
            "--backbone",
            backbone,
            "--out",
            name,
            *more,
        ]
        words += [
            "--data",
            '{"class_path": "RoundRobinDataModule", "init_args": {"mixed": true, "batch_size": 8}}',
        ]
        words += [
            "--model.balancer",
            json.dumps(balancer),
            "--trainer.max_epochs",
            "1",
            "--trainer.accelerator",
            "cpu",
        ]
        # SGD, whose updates are as large as the gradients: AdamW's are as large whatever these are.
        words += [
            "--model.optimizer",
            "torch.optim.SGD",
            "--model.lr",
            "0.1",
            "--trainer.enable_progress_bar",
            "false",
        ]
        main([*words, "--trainer.enable_model_summary", "false"])
        found.append(torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"])
    near = {"atol": 5e-3, "rtol": 0.05} if "bf16-mixed" in more else {"atol": 1e-5, "rtol": 1e-4}
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, **near)  # type: ignore[arg-type]
