from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torchjd.aggregation as aggregation
from torch import Tensor
from torch.nn import functional as F

from mtl.balancing import Sum, Surgery
from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods import CAMTL, Joint, MultiHead, Separate
from mtl.modules import SAN
from mtl.regularizers import SMART
from tests.balancing.helpers import assert_combined, make_method, mixed_batch, training_step

Norm = Literal["inf", "l2", "l1"]


def make_regularized(*args: Any, **kwargs: Any) -> Any:
    method = make_method(*args, **kwargs)
    method.regularizer.on_fit_start(method, {})
    return method


def first_task(batch: Batch) -> Batch:
    """The first task's examples, which need one encoder pass."""
    examples = batch.segments[0].examples
    length = batch.segments[0].length
    tokens = {name: value[examples, :length] for name, value in batch.tokens.items()}
    return batch._replace(
        tokens=tokens, task_ids=batch.task_ids[examples], segments=batch.segments[:1]
    )


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Mean over examples of sum_c P_c log(P_c / Q_c); the arguments are logits."""
    p, q = p.softmax(-1), q.softmax(-1)
    return (p * (p / q).log()).sum(-1).mean()


def smoothness(
    method: Any, batch: Batch, noise: Tensor, steps: int, size: float, norm: Norm, level: str
) -> Tensor:
    """Jiang et al. 2020, equations 1 and 2, with the `inputs_embeds` argument of transformers."""
    backbone, mask = method.encoder.backbone, batch.tokens["attention_mask"]
    words = backbone.get_input_embeddings()(batch.tokens["input_ids"])

    def logits(embedded: Tensor) -> Tensor:
        types = batch.tokens["token_type_ids"]
        states = backbone(
            inputs_embeds=embedded, attention_mask=mask, token_type_ids=types
        ).last_hidden_state
        return method.heads["mood"](states[:, 0])

    clean = logits(words)
    for _ in range(steps):
        noise = noise.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(kl(clean.detach(), logits(words + noise)), noise)
        moved = noise.detach() + size * gradient
        axes = -1 if level == "token" else (-2, -1)
        largest = {
            "inf": moved.abs().amax(axes, keepdim=True),
            "l2": (moved**2).sum(axes, keepdim=True).sqrt(),
        }
        noise = moved.sign() if norm == "l1" else moved / (largest[norm] + 1e-6)
    noisy = logits(words + noise)
    return kl(clean.detach(), noisy) + kl(noisy.detach(), clean)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("norm", ["inf", "l2", "l1"])
@pytest.mark.parametrize("level", ["token", "sentence"])
def test_smoothness_is_the_formula_of_the_paper(
    steps: int, norm: Norm, level: Any, backbone: str
) -> None:
    smart = SMART(
        weight=3.0,
        steps=steps,
        step_size=0.5,
        noise=0.1,
        epsilon=1e-6,
        norm=norm,
        level=level,
        proximal=0.0,
    )
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=smart)
    batch = first_task(mixed_batch())
    smart.on_step_start(batch, seed=0)
    logits = method.training_logits(batch)
    torch.manual_seed(3)
    actual = smart(method, batch, logits)["mood"].mean()
    torch.manual_seed(3)
    noise = 0.1 * torch.randn(*batch.tokens["input_ids"].shape, method.encoder.width)
    expected = 3.0 * smoothness(method, batch, noise, steps, 0.5, norm, level)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    parameters = [
        p
        for name, p in method.named_parameters()
        if "heads.same" not in name and "heads.kind" not in name
    ]
    ours, theirs = (
        torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        for value in (actual, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        if other is not None:
            assert one is not None
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_loss_is_the_sum_of_the_tasks_loss_and_the_smoothness(backbone: str) -> None:
    smart = SMART(weight=2.0, noise=0.1, proximal=0.0)
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=smart)
    batch = mixed_batch()
    torch.manual_seed(1)
    losses = method.task_losses(batch)
    torch.manual_seed(1)
    smart.on_step_start(batch, seed=0)
    added = smart(method, batch, method.training_logits(batch))
    logits = method(batch)
    for segment in batch.segments:
        cross_entropy = F.cross_entropy(logits[segment.task], segment.labels)
        torch.testing.assert_close(losses[segment.task], cross_entropy + added[segment.task].mean())
        torch.testing.assert_close(
            method.regularizer_losses[segment.task], added[segment.task].mean()
        )


def test_the_smoothness_of_values_is_their_squared_difference(tasks: Any, backbone: str) -> None:
    smart = SMART(noise=0.5, proximal=0.0)
    method = MultiHead(tasks=tasks[2:], backbone=backbone, regularizer=smart).eval()
    smart.on_fit_start(method, {})
    batch = first_task(mixed_batch())
    smart.on_step_start(batch, seed=0)
    segment = batch.segments[0]._replace(task="near", labels=torch.rand(3))
    batch = batch._replace(segments=(segment,))
    outputs: list[Tensor] = []
    method.heads["near"].register_forward_hook(lambda module, args, output: outputs.append(output))
    logits = method.training_logits(batch)
    actual = smart(method, batch, logits)["near"]
    torch.testing.assert_close(actual, ((logits["near"] - outputs[-1]) ** 2)[:, 0])
    assert actual.max() > 0


def test_ascent_computes_no_gradients_of_weights(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    differentiated = []
    grad = torch.autograd.grad

    def spy(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        differentiated.append(list(inputs))
        return grad(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=SMART(proximal=0.0, steps=2))
    method.task_losses(mixed_batch())
    weights = {id(parameter) for parameter in method.parameters()}
    assert len(differentiated) == 2
    assert not any(id(tensor) in weights for inputs in differentiated for tensor in inputs)
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("cls", [MultiHead, CAMTL, Joint, Separate])
def test_every_method_can_be_regularized_and_predicts_as_before(cls: Any, backbone: str) -> None:
    method = make_regularized(cls, backbone, Sum(), regularizer=SMART())
    batch = mixed_batch()
    before = {task: logits.detach() for task, logits in method(batch).items()}
    method.regularizer.on_step_start(batch, seed=0)
    sum(method.task_losses(batch).values()).backward()
    assert any(parameter.grad is not None for parameter in method.parameters())
    for task, logits in method(batch).items():
        assert torch.equal(logits, before[task])


def test_with_target_pooled_only_the_heads_are_computed_again(backbone: str) -> None:
    method = make_regularized(
        MultiHead, backbone, Sum(), regularizer=SMART(target="pooled", noise=0.1, proximal=0.0)
    )
    passes: list[int] = []
    method.encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    batch = first_task(mixed_batch())
    losses = method.task_losses(batch)
    assert len(passes) == 1
    losses["mood"].backward()
    assert method.regularizer_losses["mood"] > 0


def test_with_target_pooled_heads_that_read_token_states_are_rejected(
    tasks: Any, backbone: str
) -> None:
    method = MultiHead(
        tasks=tasks[1:2], backbone=backbone, regularizer=SMART(target="pooled"), pair_head=SAN()
    )
    with pytest.raises(UserError, match="read more than a pooled vector"):
        method.regularizer.on_fit_start(method, {})  # type: ignore[union-attr]


def test_the_proximal_term_starts_at_zero_and_is_the_symmetric_divergence_from_the_average(
    backbone: str,
) -> None:
    smart = SMART(weight=0.0, proximal=1.5)
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=smart)
    batch = first_task(mixed_batch())
    assert smart(method, batch, method.training_logits(batch))["mood"].abs().max() < 1e-6
    start = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    method.training_progress = 0.05
    smart.on_step_end({})
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(smart.average[name], 0.99 * start[name] + 0.01 * parameter)
    now = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    method.training_progress = 0.5
    smart.on_step_end({})
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(
            smart.average[name], 0.999 * (0.99 * start[name] + 0.01 * now[name]) + 0.001 * parameter
        )
    logits = method.training_logits(batch)
    actual = smart(method, batch, logits)["mood"].mean()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            parameter.copy_(smart.average[name])
        before = method.training_logits(batch)["mood"]
    torch.testing.assert_close(
        actual,
        1.5 * (kl(logits["mood"], before) + kl(before, logits["mood"])),
        atol=1e-6,
        rtol=1e-4,
    )


def test_the_average_continues_from_a_checkpoint(backbone: str, in_tmp: Path) -> None:
    one, two = (make_regularized(MultiHead, backbone, Sum(), regularizer=SMART()) for _ in range(2))
    one.regularizer.on_step_end({})
    torch.save(one.state_dict(), "state.pt")
    two.load_state_dict(torch.load("state.pt", weights_only=True))
    for name, value in one.regularizer.average.items():
        assert torch.equal(two.regularizer.average[name], value)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
def test_surgery_combines_the_regularized_gradients(mode: Any, backbone: str) -> None:
    method = make_regularized(
        MultiHead,
        backbone,
        Surgery(aggregation.UPGrad, mode=mode),
        regularizer=SMART(noise=0.1, proximal=0.0),
    )
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch()
    torch.manual_seed(4)
    training_step(method, batch)
    torch.manual_seed(4)
    assert_combined(method, batch)
