"""Alignment: its divergences against independent computations, and its penalties."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from mtl.__main__ import main
from mtl.balancing import Equal
from mtl.batch import Batch
from mtl.methods import LoRA
from mtl.modules.task_context import task_context
from mtl.regularizers import Alignment
from mtl.regularizers.alignment import WIDTHS, mmd, symmetric_kl
from tests.balancing.helpers import make_method, mixed_batch, task_losses

DIVERGENCES = {"mmd": mmd, "kl": symmetric_kl}


def test_mmd_is_the_mean_over_all_pairs_of_a_sum_of_gaussian_kernels() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(4, 3)), rng.normal(0.5, 2, size=(5, 3))

    def mean(left: np.ndarray, right: np.ndarray) -> float:
        values = [
            sum(np.exp(-np.sum((a - b) ** 2) / (2 * width)) for width in WIDTHS)
            for a in left
            for b in right
        ]
        return float(np.mean(values))

    expected = mean(one, one) + mean(other, other) - 2 * mean(one, other)
    assert float(mmd(torch.tensor(one), torch.tensor(other))) == pytest.approx(expected)
    assert float(mmd(torch.tensor(one), torch.tensor(one))) == pytest.approx(0, abs=1e-9)


def test_kl_is_that_of_normal_distributions_in_both_directions() -> None:
    torch.manual_seed(0)
    one = torch.randn(6, 3, dtype=torch.double)
    other = 2 * torch.randn(4, 3, dtype=torch.double) + 1
    first, second = (Normal(each.mean(0), each.std(0)) for each in (one, other))
    both = kl_divergence(first, second) + kl_divergence(second, first)
    torch.testing.assert_close(symmetric_kl(one, other), both.sum() / 2)


def test_two_quadratics_meet_where_the_penalty_balances_them() -> None:
    """(m1 - a)^2 + (m2 - b)^2 + w * KL, for representations m + z with the same z.

    KL is (m1 - m2)^2 / (2 v), with the variance v of z, so that with c = w / (2 v) the minimum has
    m1 + m2 = a + b and m1 - m2 = (a - b) / (1 + 2 c).
    """
    z = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.double)
    a, b, weight, variance = 3.0, -1.0, 4.0, 1.0
    means = nn.Parameter(torch.zeros(2, dtype=torch.double))
    optimizer = torch.optim.SGD([means], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        penalty = weight * symmetric_kl(means[0] + z, means[1] + z)
        ((means[0] - a) ** 2 + (means[1] - b) ** 2 + penalty).backward()
        optimizer.step()
    c = weight / (2 * variance)
    assert float(means.sum().detach()) == pytest.approx(a + b)
    assert float((means[0] - means[1]).detach()) == pytest.approx((a - b) / (1 + 2 * c))


def representations(method: Any, batch: Batch) -> list[dict[str, Tensor]]:
    """For each updated layer the mean of A x over the tokens of each example, one pass per task."""
    layers: list[dict[str, Tensor]] = [{} for _ in method.changes]
    for index, update in enumerate(method.changes.values()):
        for segment in batch.segments:
            seen: list[Tensor] = []
            handle = update.a.register_forward_hook(lambda *args, seen=seen: seen.append(args[2]))
            one = {name: value[segment.examples] for name, value in batch.tokens.items()}
            count = segment.examples.stop - segment.examples.start
            alone = batch._replace(
                tokens=one,
                task_ids=batch.task_ids[segment.examples],
                segments=(segment._replace(examples=slice(0, count)),),
            )
            with task_context(alone.segments, slice(0, count)), torch.no_grad():
                method.training_logits(alone)
            handle.remove()
            [output] = seen
            rows = []
            for example, states in enumerate(output):
                length = int(one["attention_mask"][example].sum())
                rows.append(states[:length].mean(0))
            layers[index][segment.task] = torch.stack(rows)
    return layers


@pytest.mark.parametrize("divergence", ["kl", "mmd"])
def test_the_loss_gets_the_mean_over_pairs_of_tasks_and_layers(
    divergence: Any, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoRA, "scheme", SimpleNamespace(tasks_per_batch="all"))
    method = make_method(
        LoRA, backbone, Equal(), rank=2, regularizer=Alignment(divergence, weight=0.3)
    )
    batch = mixed_batch()
    method.regularizer.on_fit_start(method, {})
    losses = task_losses(method, batch)
    total = method.combined(batch, losses)
    expected = [
        DIVERGENCES[divergence](by_task[one], by_task[other])
        for by_task in representations(method, batch)
        for one, other in (("mood", "same"), ("mood", "kind"), ("same", "kind"))
    ]
    method.regularizer.on_fit_end()
    penalties = method.regularizer_losses
    assert float(torch.stack(list(penalties.values())).mean()) == pytest.approx(
        0.3 * float(torch.stack(expected).mean()), rel=1e-4
    )
    method.zero_grad()
    total.backward()
    assert all(update.a.weight.grad.any() for update in method.changes.values())


def test_one_example_of_a_task_has_no_variance_and_no_penalty(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoRA, "scheme", SimpleNamespace(tasks_per_batch="some"))
    method = make_method(LoRA, backbone, Equal(), rank=2, regularizer=Alignment("kl"))
    method.regularizer.on_fit_start(method, {})
    losses = task_losses(method, mixed_batch((1, 4, 2)))
    assert set(method.regularizer_losses) == {"same", "kind"}
    assert all(loss.isfinite() for loss in losses.values())
    method.regularizer.on_fit_end()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-c", "methods/multi_head", "-c", "sampling/mixed"], "has no low-rank updates"),
        (["-c", "methods/lora_per_task", "-c", "sampling/mixed"], "has no low-rank updates"),
        (["-c", "methods/lora", "-c", "sampling/round_robin"], "add -c sampling/mixed"),
    ],
)
def test_what_cannot_be_aligned_is_refused(
    options: list[str],
    message: str,
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = [f"--tasks+={file}" for file in task_files]
    command = ["fit", *tasks, *options, "-c", "regularizers/align_lora", "--backbone", backbone]
    with pytest.raises(SystemExit):
        main([*command, "--trainer.accelerator", "cpu", "--trainer.fast_dev_run", "true"])
    assert message in capsys.readouterr().err
